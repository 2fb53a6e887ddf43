/* master.h: starts, replaces and ends the other processes. No Python, no event loop; it trusts
 * nothing that a child could have corrupted, and survives every crash of the others. */
#ifndef MYSERVER_MASTER_MASTER_H
#define MYSERVER_MASTER_MASTER_H

struct config;

/* Serves until told to stop. Returns the exit status. */
int master_run(const struct config *config);

#endif
