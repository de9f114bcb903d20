#include "pick.h"

static int may_serve(const struct upstream *up, uint32_t max_err_permille) {
    return up->healthy && !up->draining && up->id < UPSTREAMS_MAX &&
           (up->max_sessions == 0 || up->sessions < up->max_sessions) &&
           up->err_permille <= max_err_permille;
}

/* Each upstream earns its weight; the richest serves and pays what all have earned. So 5:1:1 gives
   a a b a c a a, not a a a a a b c. */
static uint32_t turn_among(struct turns *turns, uint32_t max_err_permille,
                           const struct upstream *ups, uint32_t count) {
    uint32_t best = NOBODY;
    int32_t earned = 0;
    for (uint32_t at = 0; at < count; at++) {
        if (!may_serve(&ups[at], max_err_permille)) continue;
        int32_t weight = ups[at].weight ? ups[at].weight : 1;
        int32_t *credit = &turns->credit[ups[at].id];
        *credit += weight;
        earned += weight;
        /* What an upstream earned while others were away is forgotten at some point. */
        if (*credit > 1000000) *credit = 1000000;
        if (*credit < -1000000) *credit = -1000000;
        if (best == NOBODY || *credit > turns->credit[best]) best = ups[at].id;
    }
    if (best != NOBODY) turns->credit[best] -= earned;
    return best;
}

uint32_t next_turn(struct turns *turns, struct settings settings, const struct upstream *ups,
                   uint32_t count) {
    uint32_t id = turn_among(turns, settings.max_err_permille, ups, count);
    return id != NOBODY ? id : turn_among(turns, 1000, ups, count);
}

struct reader {
    const uint8_t *at, *end;
};

static int take(struct reader *reader, const char *word) {
    while (reader->at < reader->end && (*reader->at == ' ' || *reader->at == '\t' ||
                                        *reader->at == '\n' || *reader->at == '\r'))
        reader->at++;
    const uint8_t *at = reader->at;
    for (; *word; word++, at++)
        if (at == reader->end || *at != (uint8_t)*word) return 0;
    reader->at = at;
    return 1;
}

const char *read_settings(const uint8_t *text, uint32_t length, struct settings *settings) {
    struct reader reader = {text, text + length};
    settings->max_err_permille = 500;
    if (!take(&reader, "{")) return "an object is expected";
    if (!take(&reader, "}")) {
        if (!take(&reader, "\"max_err_permille\"")) return "unknown key: known is max_err_permille";
        if (!take(&reader, ":")) return "max_err_permille: a number, 0 to 1000 is expected";
        take(&reader, "");
        uint32_t number = 0, digits = 0;
        for (; reader.at < reader.end && *reader.at >= '0' && *reader.at <= '9'; reader.at++) {
            number = number * 10 + (*reader.at - '0');
            if (++digits > 4) break;
        }
        if (digits == 0 || number > 1000) return "max_err_permille: a number, 0 to 1000 is expected";
        settings->max_err_permille = number;
        if (!take(&reader, "}")) return "max_err_permille is the only key: `}` is expected after it";
    }
    take(&reader, "");
    return reader.at == reader.end ? 0 : "more after the object";
}
