/* A workload as it comes in through the channel: messages CONFIG to START, put together and checked. No I/O. Layers of
 * an encrypted package are opened here, and nowhere else.
 *
 * Everything is bounded before it is allocated: the configuration by its own limit, the module by CHANNEL_MODULE_MAX,
 * files by the configuration's limits on the in-memory file system, secrets by those that the configuration names. */
#ifndef DONJON_WARDEN_INTAKE_H
#define DONJON_WARDEN_INTAKE_H

#include "../channel/channel.h"
#include "../config/config.h"

struct intake_file {
    char *path; /* CHANNEL_PATH_MAX at most */
    size_t path_size;
    uint8_t *content;
    size_t size;
};
struct intake_secret {
    const struct config_secret *secret; /* of `config` */
    uint8_t *value;
    size_t size;
};

struct intake;
struct intake *intake_new(void);     /* NULL: out of memory */
void intake_free(struct intake *in); /* zeroes what it holds. NULL is fine */

/* Takes one message. NULL: taken; else why it cannot be (static, or within `in`): the delivery has then failed for
 * good. After START was taken, `*started` is true and the digest has been compared. */
const char *intake_take(struct intake *in, const struct channel_message *m, bool *started);

/* Of one that has started. */
const uint8_t *intake_digest(const struct intake *in);
uint8_t intake_flags(const struct intake *in); /* enum channel_start_flags */
/* Hands over: the caller frees them. */
struct config intake_config(struct intake *in);
uint8_t *intake_module(struct intake *in, size_t *size);
/* Still the intake's. */
const struct intake_file *intake_files(const struct intake *in, size_t *n);
const struct intake_secret *intake_secrets(const struct intake *in, size_t *n);
/* A file's bytes are not needed any more. */
void intake_file_done(struct intake *in, size_t i);

#endif
