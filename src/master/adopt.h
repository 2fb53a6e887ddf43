/* adopt.h: what the other processes say on the board. */
#ifndef MYSERVER_MASTER_ADOPT_H
#define MYSERVER_MASTER_ADOPT_H

struct book;

/* The bell of the board rang: takes over what has changed there: a mold that is ready, workers that
 * were forked or serve now, workers that ask to be replaced. */
void adopt_news(struct book *b);

#endif
