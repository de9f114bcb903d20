/* Smooth weighted turns: which upstream is next. No bindings in here; tested as it is. */
#ifndef PICK_H
#define PICK_H

#include <stdint.h>

/* Upstreams whose turns are remembered, by id. A route has at most 8. */
#define UPSTREAMS_MAX 32

/* The record `upstream` of wit/balancer.wit, as the canonical ABI lays it out. */
struct upstream {
    uint32_t id;
    uint16_t weight;
    uint8_t healthy;
    uint8_t draining;
    uint32_t sessions;
    uint32_t max_sessions;
    uint32_t rtt_us;
    uint16_t err_permille;
    uint32_t out_kbit;
};

struct settings {
    uint32_t max_err_permille; /* above, an upstream gets no turn unless all are */
};

struct turns {
    int32_t credit[UPSTREAMS_MAX];
};

#define NOBODY UINT32_MAX

/* The id of the upstream whose turn it is, or NOBODY. */
uint32_t next_turn(struct turns *turns, struct settings settings, const struct upstream *ups,
                   uint32_t count);

/* Reads `{}` or `{"max_err_permille": N}`. 0 if it is fine, else what is wrong. */
const char *read_settings(const uint8_t *text, uint32_t length, struct settings *settings);

#endif
