/* end pid1|subreaper INIT [ARG]... DIE: run an init, as PID 1 of a namespace with its own /proc or not, until it ends.
 *
 * DIE is this program again, as `end die`: COMMAND, which lives for a while, writes the time to standard output, and is
 * dead. What is printed is how long after that the init has ended, in nanoseconds of CLOCK_MONOTONIC, as its parent has
 * it from waitpid(2).
 */
#define _GNU_SOURCE
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { PATIENCE = 60 }; /* seconds, then SIGALRM */

static const struct timespec LIFE = {0, 50 * 1000 * 1000}; /* the inits have come to rest by then */

static long long now(void) {
    struct timespec moment;
    clock_gettime(CLOCK_MONOTONIC, &moment);
    return moment.tv_sec * 1000000000LL + moment.tv_nsec;
}

static int die(void) {
    nanosleep(&LIFE, NULL);
    long long moment = now();
    _exit(write(STDOUT_FILENO, &moment, sizeof moment) != sizeof moment);
}

int main(int argc, char **argv) {
    int pipe_ends[2], status = 0, as_pid_1 = argc > 2 && strcmp(argv[1], "pid1") == 0;
    long long death, end;

    if (argc == 2 && strcmp(argv[1], "die") == 0)
        return die();
    if (argc < 3)
        return 2;
    alarm(PATIENCE);
    if (pipe(pipe_ends) != 0 || (as_pid_1 && unshare(CLONE_NEWPID | CLONE_NEWNS) != 0)) {
        perror("unshare");
        return 1;
    }
    pid_t pid = fork();
    if (pid == 0) {
        alarm(0);
        if (as_pid_1 && (mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
                         mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) != 0)) {
            perror("mount");
            _exit(1);
        }
        dup2(pipe_ends[1], STDOUT_FILENO);
        close(pipe_ends[0]);
        close(pipe_ends[1]);
        execv(argv[2], argv + 2);
        perror(argv[2]);
        _exit(127);
    }
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    end = now();
    if (status != 0 || read(pipe_ends[0], &death, sizeof death) != sizeof death) {
        fprintf(stderr, "%s ended with wait status %#x\n", argv[2], (unsigned)status);
        return 1;
    }
    printf("%lld\n", end - death);
    return 0;
}
