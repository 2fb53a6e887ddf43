/* date.h: points in time as text, in English and ASCII whatever locale the application has set. */
#ifndef MYSERVER_BASE_DATE_H
#define MYSERVER_BASE_DATE_H

#include "base/base.h"

#include <stdbool.h>
#include <time.h>

#define DATE_HTTP_LEN 29 /* "Sun, 06 Nov 1994 08:49:37 GMT", RFC 9110 5.6.7 */
#define DATE_ISO_LEN  24 /* "1994-11-06T08:49:37.123Z", RFC 3339 */

/* "Jan" to "Dec", which strftime(3) would write in the language of the application. */
extern const char date_months[12][4];

void date_write_http(char out[DATE_HTTP_LEN + 1], time_t seconds);
/* Reads any of the three forms of RFC 9110 5.6.7. False: it is none of them. */
MUST_CHECK bool date_read_http(const char *text, size_t len, time_t *seconds);
/* In UTC: Django gives each process that has loaded it the zone of TIME_ZONE. `between` stands
 * between date and time: 'T' or ' '. */
void date_write_iso(char out[DATE_ISO_LEN + 1], struct timespec at, char between);

#endif
