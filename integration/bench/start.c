/* start COMMAND [ARG]...: run COMMAND and print the nanoseconds from posix_spawn(3) to its end.
 *
 * A small parent, so that neither copying an interpreter's page tables nor its start is in the figure.
 */
#include <errno.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>

extern char **environ;

static long long now(void) {
    struct timespec moment;
    clock_gettime(CLOCK_MONOTONIC, &moment);
    return moment.tv_sec * 1000000000LL + moment.tv_nsec;
}

int main(int argc, char **argv) {
    pid_t pid;
    int status, failure;
    long long before, after;

    if (argc < 2)
        return 2;
    before = now();
    failure = posix_spawn(&pid, argv[1], NULL, NULL, argv + 1, environ);
    if (failure != 0) {
        fprintf(stderr, "cannot run %s: %s\n", argv[1], strerror(failure));
        return 1;
    }
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    after = now();
    if (status != 0) {
        fprintf(stderr, "%s ended with wait status %#x\n", argv[1], (unsigned)status);
        return 1;
    }
    printf("%lld\n", after - before);
    return 0;
}
