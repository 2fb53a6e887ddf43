/* date.c: points in time as text. Owns nothing. */
#include "base/date.h"

#include <string.h>

const char date_months[12][4] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                 "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};

static void write_two(char *out, int number)
{
    out[0] = (char)('0' + number / 10);
    out[1] = (char)('0' + number % 10);
}

void date_write_http(char out[DATE_HTTP_LEN + 1], time_t seconds)
{
    static const char days[] = "SunMonTueWedThuFriSat";
    struct tm t;
    gmtime_r(&seconds, &t);
    memcpy(out, "Sun, 00 Jan 0000 00:00:00 GMT", DATE_HTTP_LEN + 1);
    memcpy(out, days + 3 * (size_t)t.tm_wday, 3);
    write_two(out + 5, t.tm_mday);
    memcpy(out + 8, date_months[t.tm_mon], 3);
    write_two(out + 12, (t.tm_year + 1900) / 100);
    write_two(out + 14, (t.tm_year + 1900) % 100);
    write_two(out + 17, t.tm_hour);
    write_two(out + 20, t.tm_min);
    write_two(out + 23, t.tm_sec);
}

void date_write_iso(char out[DATE_ISO_LEN + 1], struct timespec at, char between)
{
    struct tm t;
    gmtime_r(&at.tv_sec, &t);
    memcpy(out, "0000-00-00 00:00:00.000Z", DATE_ISO_LEN + 1);
    write_two(out, (t.tm_year + 1900) / 100);
    write_two(out + 2, (t.tm_year + 1900) % 100);
    write_two(out + 5, t.tm_mon + 1);
    write_two(out + 8, t.tm_mday);
    out[10] = between;
    write_two(out + 11, t.tm_hour);
    write_two(out + 14, t.tm_min);
    write_two(out + 17, t.tm_sec);
    int milliseconds = (int)(at.tv_nsec / 1000000);
    write_two(out + 20, milliseconds / 10);
    out[22] = (char)('0' + milliseconds % 10);
}

/* Whether the pattern matches the text from `*at` on, which it moves: 'd' is a digit, '_' a digit
 * or a blank, anything else is itself. Digits go into `*number`. */
static bool take(const char **at, const char *end, const char *pattern, int *number)
{
    for (*number = 0; *pattern; pattern++, (*at)++) {
        if (*at == end)
            return false;
        bool is_digit = **at >= '0' && **at <= '9';
        if (*pattern == 'd' || *pattern == '_') {
            if (!is_digit && (*pattern == 'd' || **at != ' '))
                return false;
            *number = *number * 10 + (is_digit ? **at - '0' : 0);
        } else if (**at != *pattern) {
            return false;
        }
    }
    return true;
}

static bool take_month(const char **at, const char *end, int *month)
{
    for (*month = 0; *month < 12; (*month)++)
        if (end - *at >= 3 && memcmp(*at, date_months[*month], 3) == 0) {
            *at += 3;
            return true;
        }
    return false;
}

static bool take_time(const char **at, const char *end, struct tm *t)
{
    return take(at, end, "dd", &t->tm_hour) && take(at, end, ":", &(int){0}) &&
           take(at, end, "dd", &t->tm_min) && take(at, end, ":", &(int){0}) &&
           take(at, end, "dd", &t->tm_sec);
}

/* "06 Nov 1994 08:49:37 GMT", what stands behind "Sun, ". */
static bool read_fixed(const char *at, const char *end, struct tm *t)
{
    return take(&at, end, "dd", &t->tm_mday) && take(&at, end, " ", &(int){0}) &&
           take_month(&at, end, &t->tm_mon) && take(&at, end, " ", &(int){0}) &&
           take(&at, end, "dddd", &t->tm_year) && take(&at, end, " ", &(int){0}) &&
           take_time(&at, end, t) && take(&at, end, " GMT", &(int){0}) && at == end;
}

/* "06-Nov-94 08:49:37 GMT", behind "Sunday, ". A year that would be more than 50 years ahead is of
 * the century before. */
static bool read_rfc850(const char *at, const char *end, struct tm *t)
{
    time_t now = time(NULL);
    struct tm today;
    gmtime_r(&now, &today);
    int this_year = today.tm_year + 1900;
    bool is_right = take(&at, end, "dd", &t->tm_mday) && take(&at, end, "-", &(int){0}) &&
                    take_month(&at, end, &t->tm_mon) && take(&at, end, "-", &(int){0}) &&
                    take(&at, end, "dd", &t->tm_year) && take(&at, end, " ", &(int){0}) &&
                    take_time(&at, end, t) && take(&at, end, " GMT", &(int){0}) && at == end;
    t->tm_year += this_year - this_year % 100;
    if (t->tm_year > this_year + 50)
        t->tm_year -= 100;
    return is_right;
}

/* "Nov  6 08:49:37 1994", behind "Sun ". */
static bool read_asctime(const char *at, const char *end, struct tm *t)
{
    return take_month(&at, end, &t->tm_mon) && take(&at, end, " ", &(int){0}) &&
           take(&at, end, "_d", &t->tm_mday) && take(&at, end, " ", &(int){0}) &&
           take_time(&at, end, t) && take(&at, end, " ", &(int){0}) &&
           take(&at, end, "dddd", &t->tm_year) && at == end;
}

bool date_read_http(const char *text, size_t len, time_t *seconds)
{
    struct tm t = {0};
    const char *end = text + len, *comma = memchr(text, ',', len);
    bool is_right;
    if (comma && comma - text == 3)
        is_right = end - comma > 2 && comma[1] == ' ' && read_fixed(comma + 2, end, &t);
    else if (comma)
        is_right = end - comma > 2 && comma[1] == ' ' && read_rfc850(comma + 2, end, &t);
    else
        is_right = len > 4 && text[3] == ' ' && read_asctime(text + 4, end, &t);
    if (!is_right || t.tm_mday < 1 || t.tm_mday > 31 || t.tm_hour > 23 || t.tm_min > 59 ||
        t.tm_sec > 60)
        return false;
    t.tm_year -= 1900;
    *seconds = timegm(&t);
    return true;
}
