/* Landlock, for programs of the host that lock themselves in: from then on no file but what lies in a few places. */
#ifndef DONJON_LOADER_LANDLOCK_H
#define DONJON_LOADER_LANDLOCK_H

#include <stdbool.h>

enum landlock_rights {
    LANDLOCK_READ,
    LANDLOCK_RUN,   /* and execute */
    LANDLOCK_FILES, /* read, write, make and remove plain files and sockets */
    LANDLOCK_WRITE  /* everything but execute */
};
struct landlock_place {
    int fd; /* O_PATH will do */
    enum landlock_rights rights;
};

/* For the calling thread, and those that it makes later; no_new_privs must be set. `tcp`: no TCP port is bound and no
 * connection made either. `alone`: no signal to processes but those that are started after this, and no abstract socket
 * of others' (Linux 6.12). True also where the kernel has no Landlock. */
bool landlock_close(const struct landlock_place *places, unsigned n, bool tcp, bool alone);

#endif
