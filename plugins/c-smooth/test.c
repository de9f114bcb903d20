/* Tests of pick.c with the ordinary compiler: cc -o test test.c pick.c && ./test */
#include "pick.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

static struct upstream up(uint32_t id, uint16_t weight) {
    return (struct upstream){.id = id, .weight = weight, .healthy = 1};
}

static void turns_follow_the_weights_and_are_spread(void) {
    struct turns turns = {{0}};
    struct upstream ups[3] = {up(0, 5), up(1, 1), up(2, 1)};
    char order[8] = "";
    for (int at = 0; at < 7; at++) order[at] = "abc"[next_turn(&turns, (struct settings){500}, ups, 3)];
    assert(strcmp(order, "aabacaa") == 0);
}

static void sick_draining_full_and_unknown_ones_get_no_turn(void) {
    struct turns turns = {{0}};
    struct upstream ups[5] = {up(0, 9), up(1, 9), up(2, 9), up(3, 1), up(UPSTREAMS_MAX, 9)};
    ups[0].healthy = 0;
    ups[1].draining = 1;
    ups[2].sessions = ups[2].max_sessions = 4;
    for (int at = 0; at < 5; at++) assert(next_turn(&turns, (struct settings){500}, ups, 5) == 3);
    assert(next_turn(&turns, (struct settings){500}, ups, 3) == NOBODY);
    assert(next_turn(&turns, (struct settings){500}, ups, 0) == NOBODY);
}

static void one_that_fails_often_serves_only_alone(void) {
    struct turns turns = {{0}};
    struct upstream ups[2] = {up(0, 9), up(1, 1)};
    ups[0].err_permille = 501;
    for (int at = 0; at < 5; at++) assert(next_turn(&turns, (struct settings){500}, ups, 2) == 1);
    assert(next_turn(&turns, (struct settings){500}, ups, 1) == 0);
}

static void credits_stay_bounded(void) {
    struct turns turns = {{0}};
    struct upstream ups[2] = {up(0, UINT16_MAX), up(1, 0)};
    for (int at = 0; at < 1000000; at++) {
        ups[0].healthy = at % 2;
        assert(next_turn(&turns, (struct settings){500}, ups, 2) != NOBODY);
        assert(turns.credit[0] <= 1100000 && turns.credit[0] >= -1100000);
    }
}

static const char *wrong(const char *text, struct settings *settings) {
    return read_settings((const uint8_t *)text, (uint32_t)strlen(text), settings);
}

static void configurations(void) {
    struct settings settings = {0};
    assert(!wrong("{}", &settings) && settings.max_err_permille == 500);
    assert(!wrong(" { \"max_err_permille\" : 0 } ", &settings) && settings.max_err_permille == 0);
    assert(!wrong("{\"max_err_permille\":1000}", &settings) && settings.max_err_permille == 1000);
    const char *bad[] = {"", "[]", "{", "{\"max\":1}", "{\"max_err_permille\"}",
                         "{\"max_err_permille\":1001}", "{\"max_err_permille\":-1}",
                         "{\"max_err_permille\":99999999999}", "{\"max_err_permille\":\"1\"}",
                         "{\"max_err_permille\":1.5}", "{\"max_err_permille\":1,\"a\":2}", "{}x"};
    for (size_t at = 0; at < sizeof bad / sizeof *bad; at++) assert(wrong(bad[at], &settings));
    /* Every prefix is refused, and nothing is read past it. */
    const char *whole = "{\"max_err_permille\":1}";
    for (uint32_t end = 0; end < strlen(whole); end++)
        assert(read_settings((const uint8_t *)whole, end, &settings));
}

int main(void) {
    turns_follow_the_weights_and_are_spread();
    sick_draining_full_and_unknown_ones_get_no_turn();
    one_that_fails_often_serves_only_alone();
    credits_stay_bounded();
    configurations();
    puts("c-smooth: 5 tests passed");
    return 0;
}
