/* window INIT [ARG]... COMMAND: how long a signal to an init that is PID 1 can be lost, in nanoseconds: from execve(2)
 * until TERM is blocked or handled, as /proc/PID/status has it, which is read again and again.
 *
 * To PID 1 of a namespace TERM does nothing where it is neither (pid_namespaces(7)). vfork(2) returns at the execve. In
 * sigtimedwait(2) what is waited for is shown as not blocked: so one that sleeps counts too, which was there too late to
 * be seen before.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { PATIENCE = 60 }; /* seconds, then SIGALRM */

static long long now(void) {
    struct timespec moment;
    clock_gettime(CLOCK_MONOTONIC, &moment);
    return moment.tv_sec * 1000000000LL + moment.tv_nsec;
}

/* Whether a signal stands in a field such as `SigBlk:` of the text; -1 if there is no such field. */
static int has(const char *text, const char *field, int number) {
    const char *found = strstr(text, field);
    return found == NULL ? -1 : (int)(strtoull(found + strlen(field), NULL, 16) >> (number - 1) & 1);
}

int main(int argc, char **argv) {
    char path[64], text[8192];
    if (argc < 3)
        return 2;
    alarm(PATIENCE);
    if (unshare(CLONE_NEWPID) != 0) {
        perror("unshare");
        return 1;
    }
    pid_t pid = vfork();
    if (pid == 0) {
        execv(argv[1], argv + 1);
        _exit(127);
    }
    long long before = now(), after;
    snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
    int file = open(path, O_RDONLY), blocked, handled, sleeps;
    do {
        ssize_t size = pread(file, text, sizeof text - 1, 0);
        after = now();
        if (size <= 0)
            break;
        text[size] = '\0';
        if (strstr(text, "State:\tZ") != NULL)
            break;
        blocked = has(text, "SigBlk:", SIGTERM);
        handled = has(text, "SigCgt:", SIGTERM);
        sleeps = strstr(text, "State:\tS") != NULL;
    } while (blocked == 0 && handled == 0 && !sleeps);
    int ended = waitpid(pid, NULL, WNOHANG) != 0; /* too early, so that TERM was never heeded */
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    if (ended) {
        fprintf(stderr, "%s has ended, and never blocked or handled TERM\n", argv[1]);
        return 1;
    }
    printf("%lld\n", after - before);
    return 0;
}
