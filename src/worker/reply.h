/* reply.h: one answer: its head, its framing, and the bytes that go to the client. Knows no thread
 * and no GIL: for the application's turn, static files, refusals, and the 504 of the watch. By the
 * owner of the connection, except reply_instead. */
#ifndef MYSERVER_WORKER_REPLY_H
#define MYSERVER_WORKER_REPLY_H

#include "conn.h"

#define REPLY_PIECES_MAX 4

/* Completes the head, if it is not, and returns its bytes, which must be sent first. `known_bytes`:
 * length of the whole body, -1 if that is not known. */
struct iovec reply_head(struct conn *c, int64_t known_bytes);
/* The bytes that `len` bytes of the body are sent as: head, if it was not sent, and chunk framing.
 * Points into `data` and `room`. */
struct reply_frame {
    char room[RESPONSE_CHUNK_HEAD_MAX];
    struct iovec pieces[REPLY_PIECES_MAX];
    unsigned count;
    bool cut;   /* `data` is longer than what Content-Length leaves */
    bool whole; /* the body is complete after these */
};
void reply_frame(struct conn *c, struct reply_frame *frame, const char *data, size_t len,
                 int64_t known_bytes);
/* What ends the body: head, if it was not sent, and the last chunk. */
void reply_frame_end(struct conn *c, struct reply_frame *frame);
/* Makes a whole answer of the server itself, with an error page. `keep_alive`: as far as client and
 * settings allow. */
void reply_make_error(struct conn *c, unsigned status, bool keep_alive);
/* Sends the answer that reply_make_error has made. OUTPUT_BLOCKED: the loop has to send the rest.
 */
enum output_result reply_send_error(struct conn *c);
/* What must be done with the connection when its answer is made. */
enum conn_next reply_end(struct conn *c);
/* Answers in place of who runs the request and has sent nothing; logs and counts it. Any thread;
 * the caller ensures that the connection is not given back meanwhile. */
void reply_instead(struct conn *c, unsigned status, const char *why);

#endif
