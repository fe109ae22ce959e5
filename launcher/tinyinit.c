/* The command `tinyinit`: starts the interpreter that it was installed for, isolated, and becomes it.
 *
 * Python can be isolated only by flags on its command line (-I -S), and an installer writes `#!/path/to/python`
 * without flags; a shell in between would drop environment variables such as `a.b` and add PWD. So this program
 * blocks every signal (the mask survives execve(2), so none is lost while the interpreter starts), reads the
 * interpreter's path from the first line of `tinyinit-python` beside it, which the installer wrote there, and
 * executes it. The inherited mask is handed on as `-X tinyinit_mask=HEX` (bit N-1 is signal N), and the PID of
 * the parent, which may have died before the interpreter could ask, as `-X tinyinit_parent=HEX`.
 *
 * It speaks to the kernel itself: the start of a C library costs more than all that is done here (in a virtual
 * machine 0.3 ms, for cpuid(1) traps there). On a machine other than these two, setup.py builds it with -DWITH_LIBC.
 */
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>

enum { CANNOT = 125, FIXED_ARGUMENTS = 9, MOST_LINKS = 40 };
/* Bytes of address space below which no interpreter starts: it would end with 1 or 134, or spin, deaf to signals. */
enum { LEAST_SPACE = 14 << 20 };

#define INSTALL "; install tinyinit again"
static const struct {
    int number;
    const char *text;
} errors[] = {
    {ENOENT, "No such file or directory" INSTALL},
    {EACCES, "Permission denied" INSTALL},
    {ENOTDIR, "Not a directory" INSTALL},
    {E2BIG, "Argument list too long; give it fewer or shorter arguments and environment variables"},
    {ENOMEM, "Cannot allocate memory; look at the memory limit, and ulimit -v"},
    {ENOEXEC, "Exec format error" INSTALL},
    {EMFILE, "Too many open files; raise their limit, ulimit -n"},
    {ENFILE, "Too many open files in system; raise fs.file-max"},
    {ELOOP, "Too many levels of symbolic links" INSTALL},
    {ENAMETOOLONG, "File name too long" INSTALL},
};

/* ---- the kernel: a system call, whose result is -errno if it failed ------------------------------------------- */

#ifdef WITH_LIBC
#include <sys/auxv.h>
#include <unistd.h>

static long kernel6(long number, long a, long b, long c, long d, long e, long f) {
    long result = syscall(number, a, b, c, d, e, f);
    return result == -1 ? -errno : result;
}
#elif defined __x86_64__
static long kernel6(long number, long a, long b, long c, long d, long e, long f) {
    register long r10 __asm__("r10") = d, r8 __asm__("r8") = e, r9 __asm__("r9") = f;
    __asm__ volatile("syscall"
                     : "+a"(number)
                     : "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return number;
}
__asm__(".globl _start\n_start: xor %ebp, %ebp\nmov %rsp, %rdi\nand $-16, %rsp\ncall start\n");
#elif defined __aarch64__
static long kernel6(long number, long a, long b, long c, long d, long e, long f) {
    register long x8 __asm__("x8") = number, x0 __asm__("x0") = a, x1 __asm__("x1") = b, x2 __asm__("x2") = c;
    register long x3 __asm__("x3") = d, x4 __asm__("x4") = e, x5 __asm__("x5") = f;
    __asm__ volatile("svc #0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5) : "memory");
    return x0;
}
__asm__(".globl _start\n_start: mov x29, #0\nmov x30, #0\nmov x0, sp\nbl start\n");
#else
#error "build with -DWITH_LIBC"
#endif

#define KERNEL(number, a, b, c, d) kernel6(number, (long)(a), (long)(b), (long)(c), (long)(d), 0, 0)

/* ---- text ------------------------------------------------------------------------------------------------------ */

static size_t length(const char *text) {
    size_t size = 0;
    while (text[size] != '\0')
        size++;
    return size;
}

static char *append(char *end, const char *text) {
    while (*text != '\0')
        *end++ = *text++;
    *end = '\0';
    return end;
}

static int starts_with(const char *text, const char *start) {
    while (*start != '\0')
        if (*text++ != *start++)
            return 0;
    return 1;
}

static int refuse(const char *what, const char *path, const char *cause) {
    char line[PATH_MAX + 256];
    char *end = append(append(append(line, "tinyinit: "), what), " '");
    end = append(append(append(append(end, path), "': "), cause), "\n");
    KERNEL(SYS_write, 2, line, end - line, 0);
    return CANNOT;
}

static const char *describe(long failure) {
    for (size_t row = 0; row < sizeof errors / sizeof *errors; row++)
        if (errors[row].number == -failure)
            return errors[row].text;
    return "Input/output error" INSTALL;
}

/* ---- the steps ------------------------------------------------------------------------------------------------- */

/* Block every signal; the mask that was inherited. */
static uint64_t block_signals(void) {
    uint64_t all = ~0ULL, inherited = 0;
    KERNEL(SYS_rt_sigprocmask, SIG_BLOCK, &all, &inherited, sizeof all);
    return inherited;
}

static void write_option(char *option, const char *name, uint64_t value) {
    option = append(option, name);
    for (int shift = 60; shift >= 0; shift -= 4)
        *option++ = "0123456789abcdef"[value >> shift & 15];
    *option = '\0';
}

/* Our own path without symbolic links: from /proc or, where there is none, from the path we were executed by
 * (AT_EXECFN), whose folder getcwd(2) names. 0 or -errno. */
static long find_self(const char *executed, char *path) {
    char link[PATH_MAX], *name;
    long size = KERNEL(SYS_readlinkat, AT_FDCWD, "/proc/self/exe", path, PATH_MAX - 1);
    if (size > 0) {
        path[size] = '\0';
        return 0;
    }
    if (executed == NULL || length(executed) >= PATH_MAX)
        return -ENAMETOOLONG;
    long here = KERNEL(SYS_openat, AT_FDCWD, ".", O_PATH | O_CLOEXEC, 0);
    append(path, executed);
    for (int links = 0; links < MOST_LINKS; links++) {
        name = path;
        for (char *character = path; *character != '\0'; character++)
            if (*character == '/')
                name = character + 1;
        size = KERNEL(SYS_readlinkat, AT_FDCWD, path, link, sizeof link - 1);
        if (size < 0)
            break;
        link[size] = '\0';
        if (name - path + size >= PATH_MAX)
            return -ENAMETOOLONG;
        append(*link == '/' ? path : name, link);
    }
    char base[NAME_MAX + 1];
    if (length(name) > NAME_MAX)
        return -ENAMETOOLONG;
    append(base, name);
    *name = '\0';
    long failure = *path == '\0' ? 0 : KERNEL(SYS_chdir, path, 0, 0, 0);
    if (failure == 0)
        failure = KERNEL(SYS_getcwd, path, PATH_MAX - sizeof base, 0, 0);
    if (here >= 0) {
        KERNEL(SYS_fchdir, here, 0, 0, 0);
        KERNEL(SYS_close, here, 0, 0, 0);
    }
    if (failure < 0)
        return failure;
    append(append(path + length(path), "/"), base);
    return 0;
}

/* The path in a `#!/path` line, or in the `'''exec' "/path" "$0" "$@"` that stands for it after `#!/bin/sh`
 * where an installer found the path too long for the kernel, or with a space in it. */
static char *interpreter_in(char *text) {
    static const char shell[] = "#!/bin/sh\n'''exec' ";
    char end = '\n', *last;
    if (starts_with(text, shell)) {
        text += sizeof shell - 1;
        end = *text == '"' ? '"' : ' ';
        text += *text == '"';
    } else if (starts_with(text, "#!"))
        text += 2;
    else
        return NULL;
    for (last = text; *last != '\0' && *last != end;)
        last++;
    *last = '\0';
    return *text == '/' ? text : NULL;
}

static int launch(long argc, char **argv, char **environ, const char *executed) {
    char script[PATH_MAX + sizeof "-python"], head[PATH_MAX + 64], mask[64], parent[64];
    write_option(mask, "tinyinit_mask=", block_signals());
    write_option(parent, "tinyinit_parent=", (uint64_t)KERNEL(SYS_getppid, 0, 0, 0, 0));
    long failure = find_self(executed, script);
    if (failure < 0)
        return refuse("cannot find itself as", executed == NULL ? "" : executed, describe(failure));
    append(script + length(script), "-python");
    long file = KERNEL(SYS_openat, AT_FDCWD, script, O_RDONLY | O_CLOEXEC, 0);
    long size = file < 0 ? file : KERNEL(SYS_read, file, head, sizeof head - 1, 0);
    if (size < 0)
        return refuse("cannot read", script, describe(size));
    KERNEL(SYS_close, file, 0, 0, 0);
    head[size] = '\0';
    char *interpreter = interpreter_in(head);
    if (interpreter == NULL)
        return refuse("no interpreter is named in", script, "its first line should be #! and an absolute path" INSTALL);

    struct {
        uint64_t soft, hard;
    } space;
    if (KERNEL(SYS_prlimit64, 0, RLIMIT_AS, NULL, &space) == 0 && space.soft < LEAST_SPACE)
        return refuse("cannot start", interpreter, describe(-ENOMEM));
    size_t words = ((size_t)argc + FIXED_ARGUMENTS + 1) * sizeof(char *); /* too many for the stack, perhaps */
    long memory = kernel6(SYS_mmap, 0, (long)words, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory < 0 && memory > -4096)
        return refuse("cannot start", interpreter, describe(memory));
    char *const fixed[FIXED_ARGUMENTS] = {interpreter, "-IS", "-X", "utf8", "-X", mask, "-X", parent, script};
    char **arguments = (char **)memory;
    for (int number = 0; number < FIXED_ARGUMENTS; number++)
        *arguments++ = fixed[number];
    for (long number = 1; number < argc; number++)
        *arguments++ = argv[number];
    *arguments = NULL;
    failure = KERNEL(SYS_execve, interpreter, memory, environ, 0);
    return refuse("cannot run the interpreter", interpreter, describe(failure));
}

/* ---- where it starts ------------------------------------------------------------------------------------------- */

#ifdef WITH_LIBC
int main(int argc, char **argv) {
    return launch(argc, argv, environ, (const char *)getauxval(AT_EXECFN));
}
#else
/* `stack` is what execve(2) puts there: argc, argv, NULL, environ, NULL, and the auxiliary vector. */
__attribute__((used, noreturn)) void start(long *stack) {
    long argc = stack[0];
    char **argv = (char **)(stack + 1), **environ = argv + argc + 1, **end = environ;
    const char *executed = NULL;
    while (*end != NULL)
        end++;
    for (Elf64_auxv_t *entry = (Elf64_auxv_t *)(end + 1); entry->a_type != AT_NULL; entry++)
        if (entry->a_type == AT_EXECFN)
            executed = (const char *)entry->a_un.a_val;
    KERNEL(SYS_exit_group, launch(argc, argv, environ, executed), 0, 0, 0);
    __builtin_unreachable();
}
#endif
