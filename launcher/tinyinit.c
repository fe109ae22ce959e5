/* The command `tinyinit`: starts the interpreter that it was installed for, isolated, and becomes it.
 *
 * Python can be isolated only by flags on its command line (-I -S), and an installer writes `#!/path/to/python`
 * without flags; a shell in between would drop environment variables such as `a.b` and add PWD. So this program
 * blocks every signal (the mask survives execve(2), so none is lost while the interpreter starts), reads the
 * interpreter's path from the first line of `tinyinit-python` beside it, which the installer wrote there, and
 * executes it. The inherited mask is handed on as `-X tinyinit_mask=HEX` (bit N-1 is signal N).
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <unistd.h>

enum { CANNOT = 125, FIXED_ARGUMENTS = 7 };

static int refuse(const char *what, const char *path, const char *cause) {
    dprintf(STDERR_FILENO, "tinyinit: %s '%s': %s; install tinyinit again\n", what, path, cause);
    return CANNOT;
}

/* Block every signal; return the mask that was inherited, as bits. */
static unsigned long long block_signals(void) {
    sigset_t all, inherited;
    unsigned long long bits = 0;
    sigfillset(&all);
    sigemptyset(&inherited);
    sigprocmask(SIG_BLOCK, &all, &inherited);
    for (int number = 1; number <= 64; number++)
        if (sigismember(&inherited, number) == 1)
            bits |= 1ULL << (number - 1);
    return bits;
}

/* The path in a `#!/path` line, or in the `'''exec' "/path" "$0" "$@"` that stands for it after `#!/bin/sh`
 * where an installer found the path too long for the kernel, or with a space in it. */
static char *interpreter_in(char *text) {
    static const char shell[] = "#!/bin/sh\n'''exec' ";
    const char *end = "\n";
    if (strncmp(text, shell, sizeof shell - 1) == 0) {
        text += sizeof shell - 1;
        end = *text == '"' ? "\"" : " ";
        text += *text == '"';
    } else if (strncmp(text, "#!", 2) == 0)
        text += 2;
    else
        return NULL;
    text[strcspn(text, end)] = '\0';
    return *text == '/' ? text : NULL;
}

int main(int argc, char **argv) {
    unsigned long long mask = block_signals();
    char script[PATH_MAX + sizeof "-python"], head[PATH_MAX + 64], mask_option[64];
    const char *invoked_as = (const char *)getauxval(AT_EXECFN);

    if (invoked_as == NULL || realpath(invoked_as, script) == NULL)
        return refuse("cannot find itself as", invoked_as ? invoked_as : argv[0], strerror(errno));
    strcat(script, "-python");
    int file = open(script, O_RDONLY | O_CLOEXEC);
    ssize_t size = file < 0 ? -1 : read(file, head, sizeof head - 1);
    if (size < 0)
        return refuse("cannot read", script, strerror(errno));
    close(file);
    head[size] = '\0';
    char *interpreter = interpreter_in(head);
    if (interpreter == NULL)
        return refuse("no interpreter is named in", script, "its first line should be #! and an absolute path");

    char **arguments = calloc((size_t)argc + FIXED_ARGUMENTS + 1, sizeof *arguments);
    if (arguments == NULL)
        return refuse("cannot start", interpreter, strerror(errno));
    snprintf(mask_option, sizeof mask_option, "tinyinit_mask=%llx", mask);
    char *fixed[FIXED_ARGUMENTS] = {interpreter, "-IS", "-X", "utf8", "-X", mask_option, script};
    memcpy(arguments, fixed, sizeof fixed);
    if (argc > 1)
        memcpy(arguments + FIXED_ARGUMENTS, argv + 1, ((size_t)argc - 1) * sizeof *argv);
    execv(interpreter, arguments);
    return refuse("cannot run the interpreter", interpreter, strerror(errno));
}
