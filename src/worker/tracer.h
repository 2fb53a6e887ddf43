/* tracer.h: the tracer, a thread that is there while somebody wants to know what of this worker's
 * memory grows (shared/growth.h). The worker goes on serving, slower. */
#ifndef MYSERVER_WORKER_TRACER_H
#define MYSERVER_WORKER_TRACER_H

struct board;

/* Once in each worker. */
void tracer_begin(struct board *board, unsigned slot);
/* With each tick: starts the thread if somebody asks for it. */
void tracer_look(void);
/* The worker is told to stop: a trace ends without a result. */
void tracer_stop(void);
/* After tracer_stop: waits until the thread has ended. GIL held; lets go of it meanwhile. */
void tracer_join(void);

#endif
