/* Tells a keep, cheaply, that its tenants have something to say: while a program computes, nobody asks the host. A
 * thread that sleeps until one of the channel's sockets has become readable or writable, and then raises the block's
 * word. */
#ifndef DONJON_LOADER_ATTENTION_H
#define DONJON_LOADER_ATTENTION_H

#include "../gate/gate.h"

struct attention;
struct attention *attention_new(void); /* NULL: no descriptors, no thread */
void attention_delete(struct attention *a);
/* Which block; NULL: none (any more), and once this has returned nothing is written to the one before. */
void attention_block(struct attention *a, struct gate_block *block);
/* One descriptor more; it leaves by being closed. */
bool attention_add(struct attention *a, int fd);

#endif
