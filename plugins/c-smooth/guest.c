/* The plugin around pick.c: the canonical ABI of `balancer-plugin`, by hand.
 *
 * By hand, because it is 100 lines, needs no libc, and shows what bindings do:
 *  - a function of an interface is exported as `edgeweir:plugin/INTERFACE@VERSION#FUNCTION`;
 *  - arguments come flattened: a record is its fields, a list or string is pointer and length, an
 *    option is 0 or 1 and then the value. Up to 16 of them;
 *  - what points into memory was put there by the host, through `cabi_realloc`;
 *  - a result of more than one value is returned as a pointer to it, laid out as in C;
 *  - `cabi_post_...` is called when the host has read the result.
 * The build checks all of it against wit/. */
#include "pick.h"

#define EXPORT(name) __attribute__((export_name(name)))
#define LIFECYCLE "edgeweir:plugin/lifecycle@1.0.0#"
#define BALANCER "edgeweir:plugin/balancer@1.0.0#"

struct text {
    const char *at;
    uint32_t length;
};

#define TEXT(words) ((struct text){words, sizeof(words) - 1})

static struct settings settings = {500};
static struct turns turns;

/* Arguments of one call: at most a state of 64 KiB beside a configuration, or 8 upstreams. */
static _Alignas(16) uint8_t arguments[96 * 1024];
static uint32_t used;

EXPORT("cabi_realloc")
void *cabi_realloc(void *old, uint32_t had, uint32_t align, uint32_t want) {
    uint32_t at = (used + align - 1) & ~(align - 1);
    if (old || had || at > sizeof arguments || want > sizeof arguments - at) __builtin_trap();
    used = at + want;
    return arguments + at;
}

struct info {
    struct text name, version, config_schema;
};

EXPORT(LIFECYCLE "describe")
const struct info *describe(void) {
    static struct info info;
    info.name = TEXT("c-smooth");
    info.version = TEXT("1.0.0");
    info.config_schema =
        TEXT("{\"type\":\"object\",\"additionalProperties\":false,\"properties\":{\"max_err_permille\":"
             "{\"type\":\"integer\",\"minimum\":0,\"maximum\":1000,\"default\":500}}}");
    return &info;
}

/* result<_, init-error>: which side; which error; its text. */
struct init_result {
    uint8_t is_error;
    struct {
        uint8_t kind; /* 0: bad-config, 1: unsupported */
        struct text text;
    } error;
};

static uint32_t length_of(const char *text) {
    uint32_t length = 0;
    while (text[length]) length++;
    return length;
}

EXPORT(LIFECYCLE "init")
const struct init_result *init(const uint8_t *config, uint32_t config_length, uint32_t has_state,
                               const char *from, uint32_t from_length, const uint8_t *state,
                               uint32_t state_length) {
    (void)has_state, (void)from, (void)from_length, (void)state, (void)state_length;
    static struct init_result result;
    const char *wrong = read_settings(config, config_length, &settings);
    used = 0;
    result.is_error = wrong != 0;
    result.error.kind = 0;
    result.error.text.at = wrong;
    result.error.text.length = wrong ? length_of(wrong) : 0;
    return &result;
}

EXPORT(LIFECYCLE "snapshot")
const struct text *snapshot(void) {
    static const struct text empty = {"", 0};
    return &empty;
}

struct probe_result {
    uint8_t is_error;
    struct text text;
};

EXPORT(LIFECYCLE "probe")
const struct probe_result *probe(void) {
    static struct probe_result result;
    struct turns fresh = {{0}};
    struct upstream ups[2] = {{.id = 0, .weight = 1, .healthy = 1}, {.id = 1, .weight = 2, .healthy = 1}};
    uint32_t heavy = 0;
    for (int round = 0; round < 6; round++) heavy += next_turn(&fresh, settings, ups, 2) == 1;
    result.is_error = heavy != 4;
    result.text = TEXT("of 6 turns an upstream of weight 2 beside one of weight 1 gets other than 4");
    return &result;
}

/* option<u32> */
struct choice {
    uint8_t is_some;
    uint32_t id;
};

EXPORT(BALANCER "pick-upstream")
const struct choice *pick_upstream(uint64_t client_ip_hash, uint64_t path_hash, uint32_t has_sticky,
                                   uint32_t sticky, uint32_t attempt, const char *path,
                                   uint32_t path_length, const struct upstream *ups, uint32_t count) {
    (void)client_ip_hash, (void)path_hash, (void)attempt, (void)path, (void)path_length;
    (void)has_sticky, (void)sticky;
    static struct choice choice;
    uint32_t id = next_turn(&turns, settings, ups, count);
    used = 0;
    choice.is_some = id != NOBODY;
    choice.id = id;
    return &choice;
}

struct worker {
    uint16_t id;
    uint32_t pipes, kpps;
    uint16_t busy_permille;
    uint8_t same_node;
};

/* option<u16> */
struct worker_choice {
    uint8_t is_some;
    uint16_t id;
};

EXPORT(BALANCER "pick-worker")
const struct worker_choice *pick_worker(uint64_t session_hash, uint32_t has_ssrc, uint32_t ssrc,
                                        uint32_t expected_kbit, const struct worker *workers,
                                        uint32_t count) {
    (void)session_hash, (void)has_ssrc, (void)ssrc, (void)expected_kbit, (void)workers, (void)count;
    static const struct worker_choice no_opinion;
    used = 0;
    return &no_opinion;
}

/* The compiler may call these, and there is no libc. */
void *memset(void *to, int byte, unsigned long count) {
    for (uint8_t *at = to; count--; at++) *at = (uint8_t)byte;
    return to;
}

void *memcpy(void *restrict to, const void *restrict from, unsigned long count) {
    uint8_t *at = to;
    for (const uint8_t *source = from; count--;) *at++ = *source++;
    return to;
}
