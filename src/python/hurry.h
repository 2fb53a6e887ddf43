/* hurry.h: the GIL, as a thread sees it that samples the others: it has to be there when the clock
 * says so. */
#ifndef MYSERVER_PYTHON_HURRY_H
#define MYSERVER_PYTHON_HURRY_H

struct _ts;

/* Takes the GIL for `state`. A thread that waits for it asks the holder to let go after the switch
 * interval, 5 ms, and gets it earlier where the holder begins to wait for something: whatever is
 * sampled then is mostly on the way into a wait. This one asks at once.
 * Returns the thread state that had the GIL when the wait began, only to be compared; NULL: nobody
 * had it. On a version that is not tested it waits as all others do, and NULL says nothing. */
const struct _ts *hurry_take(struct _ts *state);

#endif
