/* fuzz_config.c: any bytes as an ini file. It is read, or refused with one sentence that names the
 * file; never cut, never read beyond. */
#include "base/base.h"
#include "fuzz.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

/* A refusal ends the process, which a fuzzer may not: here it ends the reading. */
#define die    fuzz_die
#define fopen  fuzz_fopen
#define fclose fuzz_fclose
NORETURN PRINTF_LIKE(2, 3) void fuzz_die(enum exit_status status, const char *format, ...);
static FILE *fuzz_fopen(const char *path, const char *mode);
static int fuzz_fclose(FILE *file);
#include "config/ini.c"
#undef die
#undef fopen
#undef fclose

#define PATH "fuzz.ini"

void __sanitizer_install_malloc_and_free_hooks(void (*allocated)(const volatile void *, size_t),
                                               void (*freed)(const volatile void *));

static struct {
    const uint8_t *data;
    size_t size;
    jmp_buf refused;
    FILE *file;
    /* What a refusal leaves behind. */
    bool watching;
    void *memory[4096];
    size_t count;
} run;

static void on_allocated(const volatile void *memory, size_t size)
{
    (void)size;
    if (run.watching && run.count < ARRAY_LEN(run.memory))
        run.memory[run.count++] = (void *)(uintptr_t)memory;
}

static void on_freed(const volatile void *memory)
{
    for (size_t i = run.count; run.watching && i > 0; i--) {
        if (run.memory[i - 1] == memory) {
            run.memory[i - 1] = run.memory[--run.count];
            return;
        }
    }
}

static FILE *fuzz_fopen(const char *path, const char *mode)
{
    (void)path;
    (void)mode;
    run.file = fmemopen((void *)(uintptr_t)run.data, run.size, "r");
    require(run.file != NULL);
    return run.file;
}

static int fuzz_fclose(FILE *file)
{
    require(file == run.file);
    run.file = NULL;
    return fclose(file);
}

void fuzz_die(enum exit_status status, const char *format, ...)
{
    va_list args;
    char *sentence;
    va_start(args, format);
    require(vasprintf(&sentence, format, args) > 0);
    va_end(args);
    require(status == EXIT_CONFIG && strncmp(sentence, PATH ":", strlen(PATH) + 1) == 0);
    require(strchr(sentence, '\n') == NULL);
    longjmp(run.refused, 1);
}

static void check_lines(const struct config_ini *ini)
{
    unsigned last = 0;
    for (size_t i = 0; i < ini->count; i++) {
        const struct config_ini_line *line = &ini->lines[i];
        require(line->name[0] != '\0' && line->number > last);
        require(strchr(line->name, '\n') == NULL && strchr(line->value, '\n') == NULL);
        last = line->number;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static bool installed;
    struct config_ini ini;
    if (!installed) {
        __sanitizer_install_malloc_and_free_hooks(on_allocated, on_freed);
        setenv("SET", "a value, $${SET}", 1);
        installed = true;
    }
    if (size == 0)
        return 0;
    run.data = data;
    run.size = size;
    run.count = 0;
    run.watching = true;
    if (setjmp(run.refused) == 0) {
        config_ini_read(&ini, PATH);
        check_lines(&ini);
        config_ini_free(&ini);
        require(run.count == 0);
    } else if (run.file) {
        fclose(run.file);
    }
    run.watching = false;
    for (size_t i = 0; i < run.count; i++)
        free(run.memory[i]);
    return 0;
}
