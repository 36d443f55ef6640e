/* What the agent and donjon-keep, the process that holds one keep, say to each other. Neither is trusted by the keep;
 * of each other they believe nothing that would cost more than this one keep.
 *
 * donjon-keep --dir DIR --status-fd N [--backend NAME] [--memory BYTES] [--signer FILE] [--idle SECONDS]
 *             --token-fd N [--listen PORTS] [--connect WHERE] [--warden FILE] [--debug]
 *   DIR         the keep's directory, made by the agent (0700); the two sockets below are made in it
 *   --status-fd one line of JSON goes there when the keep has been built, or cannot be; then it is closed
 *   --token-fd  KEEP_TOKEN hex digits are read from there: what who speaks on the control socket has to know. A
 *               descriptor, since other keeps see this process's arguments
 *   --backend   "process", "kvm", ...; without: the strongest that works
 *   --memory    bytes the keep may have, all together; without: 2 GiB
 *   --signer    the software signer's PEM (attest_signer_load), used where the backend has no TEE
 *   --idle      ends by itself when no tenant has fed it for so long; 0: never; without: 60
 *   --listen    ports that the workload may listen on, "20000-20999" or "none"; without: any. Where it asks for port 0
 * it gets one of these
 *   --connect   where it may connect to: "any" (without), "public" (the Internet, not this machine or private
 * networks), "none"
 *   --warden    the warden's file; without: donjon-warden-tls beside this program
 *   The agent starts it in a session of its own, standard input, output and error on /dev/null (error is the agent's
 *   with --debug). It outlives the agent, ignores SIGPIPE and SIGHUP, and ends with the keep in it when it is killed.
 *
 * The line on the status descriptor:
 *   {"ok":true,"backend":"kvm","protects":"...","measurement":"<96 hex digits>","tee":false}
 *   {"ok":false,"error":"..."}                      ... and donjon-keep ends
 *
 * DIR/socket   (unix, stream, 0600) a connection is one tenant's: bytes for the warden's TLS, as they come.
 * DIR/control  (unix, stream, 0600) JSON lines of at most KEEP_LINE_MAX bytes. The first line, KEEP_HELLO_MAX bytes at
 *              most, is {"op":"hello","token":"..."}; nothing answers it. With the right token the connection is the
 *              agent's, and replaces the one before; else it is closed. (Every process of the user can connect, other
 *              keeps' among them.) Then the agent asks, and donjon-keep answers in order, with the "op" it answers:
 *   {"op":"status"} -> {"op":"status","state":"waiting|running|exited","backend":...,"measurement":...,"ports":[8443],
 *                       "cpu_ms":..., "memory":bytes, "exit":{"outcome":"exited","code":0,"text":null}|null}
 *   {"op":"stop"}   -> {"op":"stop"}, then the keep and donjon-keep end (exit recorded as "stopped")
 *   Outcomes: exited, trapped, timeout, refused, failed, signalled, stopped, unfed (no tenant came). `text` is always
 * null: a program's last words are its tenant's. and donjon-keep may say at any time:
 *   {"event":"state", ...}      the fields of status, whenever state or ports change; "exited" is said before it ends
 *   {"upcall":"steward","id":N,"url":"https://...","which":"nonce|certify|ear","body":"<base64>"}
 * to which the agent answers
 *   {"answer":"steward","id":N,"status":200,"body":"<base64>"}   or   {"answer":"steward","id":N,"error":"..."}
 *
 * DIR/end.json  the same fields once more, written when the keep has ended, for an agent that was not there.
 *
 * A keep whose program has ended stays "exited" with its logs for KEEP_LINGER seconds, or until it is stopped, or until
 * a tenant who has been attached, or has read the log, knows how it ended. */
#ifndef DONJON_AGENT_KEEP_H
#define DONJON_AGENT_KEEP_H

enum {
    KEEP_LINE_MAX = 128 * 1024, /* of a line on the control socket: 64 KiB of body in base64, and the rest */
    KEEP_TOKEN = 64,            /* hex digits */
    KEEP_HELLO_MAX = 256,
    KEEP_STATUS_MAX = 4096, /* of the line on the status descriptor */
    KEEP_IDLE = 60,         /* seconds */
    KEEP_LINGER = 600,      /* seconds */
};
#define KEEP_SOCKET  "socket"
#define KEEP_CONTROL "control"
#define KEEP_END     "end.json"

#endif
