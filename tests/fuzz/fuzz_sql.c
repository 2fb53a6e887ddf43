/* fuzz_sql.c: statements without their values: any bytes, in all dialects. What is shown is
 * bounded, and no text in single quotes is in it. */
#include "fuzz.h"

#include "shared/sql.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    struct buf out = {0};
    struct text sql = {(const char *)data + 1, size - 1};
    sql_shown(&out, sql, (enum sql_dialect)(data[0] % (SQL_MYSQL + 1)));
    require(out.len <= 6 * size);
    require(out.len == 0 || !memchr(out.data, '\'', out.len));
    buf_fini(&out);
    return 0;
}
