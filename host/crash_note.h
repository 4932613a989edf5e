/* A crash note: what the loop's thread was doing for a script when a slice kept the loop for too long, or
 * when the process died of a signal that it caused itself.
 *
 * While a slice is short nothing is written. A slice that is long, and one in which the process dies, leaves
 * its words in a file beside the journal; the next host finds them there. One for a process, as the watchdog
 * is. Everything here may be called from a signal handler. */
#ifndef MOONTIDE_CRASH_NOTE_H
#define MOONTIDE_CRASH_NOTE_H

#include <stdbool.h>
#include <stddef.h>

/* A slice that lasts this long is noted in the file; one that takes so much processor time, or lasts so long
 * by the clock, ends the process. The clock alone would blame a slice that others keep from the processor. */
#define CRASH_NOTE_NOTE_MS 100
#define CRASH_NOTE_CPU_MS  10000
#define CRASH_NOTE_WALL_MS 60000
#define CRASH_NOTE_STATUS  75 /* EX_TEMPFAIL of sysexits.h: start me again */

/* Names the file; NULL: none. From then on the signals that end a process for its own fault are noted, too.
 * False: the path is too long. */
bool crash_note_file(const char *path);

/* A slice begins that works on `words`, a text that lives until crash_note_end; NULL: no request.
 */
void crash_note_begin(const char *words);

/* It ended: what was noted of it is forgotten. */
void crash_note_end(void);

/* The slice goes on for so long already, and has used so much. Ends the process, with a line that says what
 * kept it, once that is too much. */
void crash_note_lasts(long wall_ms, long cpu_ms);

#endif
