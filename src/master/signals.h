/* signals.h: the signals by which an operator steers the master. Master only. */
#ifndef MYSERVER_MASTER_SIGNALS_H
#define MYSERVER_MASTER_SIGNALS_H

struct book;

/* Blocks the signals that the master acts on and opens book.signal_fd, which is readable when one
 * has come. */
void signals_open(struct book *b);
/* Acts on those that have come, or writes into the book what they ask for. */
void signals_take(struct book *b);

#endif
