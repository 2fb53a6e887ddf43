/* page.c: the status page, page.html, as a part of the program. Owns nothing. */
#include "page.h"

/* The compiler has no #embed before C23. The file is named from where make runs. */
__asm__(".section .rodata\n"
        ".global page_begin\n.hidden page_begin\n.global page_end\n.hidden page_end\n"
        "page_begin: .incbin \"src/control/page.html\"\n"
        "page_end: .byte 0\n"
        ".previous\n");
extern const char page_begin[], page_end[];

void page_html(const struct stats_facts *facts, struct buf *out)
{
    (void)facts;
    // cppcheck-suppress comparePointers ; the linker puts both into one object
    buf_append(out, page_begin, (size_t)(page_end - page_begin));
}
