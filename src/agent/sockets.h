/* The agent's listening sockets: those the operator names, or those systemd hands over. */
#ifndef DONJON_AGENT_SOCKETS_H
#define DONJON_AGENT_SOCKETS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* "HOST", "HOST:PORT", "[V6]:PORT", ":PORT": to host and service; without a port AGENT_PORT. */
bool address_split(const char *text, char *host, size_t host_size, char *port, size_t port_size);

/* Listens on one address; fills at most `most` descriptors (a name may mean several). Returns how many, 0 with `error`.
 */
unsigned sockets_listen(const char *address, int *fds, unsigned most, char *error, size_t size);
/* Sockets by sd_listen_fds(3): LISTEN_PID, LISTEN_FDS from the environment, which is cleared. 0: none were handed over.
 * Negative: what was handed over is not listening TCP sockets. */
int sockets_inherited(int *fds, unsigned most);
/* Tells systemd (sd_notify(3)); does nothing elsewhere. */
void sockets_notify(const char *state);

struct sockaddr_storage;
bool address_is_loopback(const struct sockaddr_storage *);
/* "192.0.2.1:4711" for the log. */
void address_text(const struct sockaddr_storage *, char *out, size_t size);
/* The port a listening socket has. */
uint16_t socket_port(int fd);

#endif
