/* namespace end|group|wait COMMAND [ARG]...: PID 1 for the teardown measure. It runs COMMAND, and when that has ended
 *
 *   end    ends all that is left in the namespace as fast as can be: kill(-1, SIGTERM), and waitpid until ECHILD
 *   group  the same with COMMAND's process group, as wrappers do that know no more; nobody here has left that
 *   wait   only looks whether something is left, for COMMAND is an init, whose task it was
 *
 * and prints the time, in nanoseconds of CLOCK_MONOTONIC, and how many others were there to be waited for.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { PATIENCE = 60 }; /* seconds */

static void give_up(int number) {
    static const char said[] = "it takes too long\n";
    (void)number;
    if (write(STDERR_FILENO, said, sizeof said - 1) > 0)
        _exit(1);
    _exit(2);
}

int main(int argc, char **argv) {
    int ends, by_group, status, others = 0;
    pid_t pid, command;
    struct timespec moment;

    if (argc < 3)
        return 2;
    by_group = strcmp(argv[1], "group") == 0;
    ends = by_group || strcmp(argv[1], "end") == 0;
    signal(SIGALRM, give_up); /* its default does nothing to PID 1 */
    alarm(PATIENCE);
    command = fork();
    if (command < 0)
        return 1;
    if (command == 0) {
        if (by_group)
            setpgid(0, 0);
        execv(argv[2], argv + 2);
        perror(argv[2]);
        _exit(127);
    }

    do /* what becomes an orphan before is reaped, as PID 1 does */
        pid = waitpid(-1, &status, 0);
    while (pid != command && (pid > 0 || errno == EINTR));
    if (status != 0) {
        fprintf(stderr, "%s ended with wait status %#x\n", argv[2], (unsigned)status);
        return 1;
    }
    if (ends) {
        kill(by_group ? -command : -1, SIGTERM);
        while (waitpid(-1, &status, 0) > 0)
            others++;
    }
    clock_gettime(CLOCK_MONOTONIC, &moment);
    if (!ends && waitpid(-1, &status, WNOHANG) >= 0) /* not ECHILD: one at least is alive, or has just died */
        others++;
    printf("%lld %d\n", moment.tv_sec * 1000000000LL + moment.tv_nsec, others);
    return 0;
}
