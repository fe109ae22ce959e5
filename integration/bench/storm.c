/* storm COUNT: COMMAND for the storm measure: COUNT orphans that die at once.
 *
 * They wait on one pipe. `ready` is printed when all of them do, and are the init's children. A line on standard
 * input releases them, by closing the pipe, and then the nanoseconds until the init has reaped the last are printed.
 * Another line ends it.
 *
 * A zombie still has its PID, a reaped child has none: kill(PID, 0) says ESRCH. So the orphans are asked for one after
 * the other, and the one that is still there is asked again after a pause. That is one cheap call for each orphan,
 * without any lock that the kernel's reaping needs, unlike a list of the init's children, which is walked each time.
 * PIDs are handed out in a circle, so within a storm none is another process's by now.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { PATIENCE = 300 }; /* seconds, then SIGALRM */

static const struct timespec PAUSE = {0, 100 * 1000};

struct orphans {
    atomic_int waiting;
    pid_t pid[];
};

static long long now(void) {
    struct timespec moment;
    clock_gettime(CLOCK_MONOTONIC, &moment);
    return moment.tv_sec * 1000000000LL + moment.tv_nsec;
}

/* Start them from a parent that ends, so that they become the init's children. 0, or -1 and errno. */
static int make_orphans(struct orphans *orphans, int count, int gate[2]) {
    int status;
    char nothing;
    pid_t parent = fork();
    if (parent < 0)
        return -1;
    if (parent > 0) {
        waitpid(parent, &status, 0);
        errno = WIFEXITED(status) ? WEXITSTATUS(status) : EINTR;
        return errno == 0 ? 0 : -1;
    }
    close(gate[1]);
    for (int number = 0; number < count; number++) {
        pid_t pid = fork();
        if (pid < 0)
            _exit(errno);
        if (pid == 0) {
            orphans->waiting++;
            _exit(read(gate[0], &nothing, 1) == 0 ? 0 : 1);
        }
        orphans->pid[number] = pid;
    }
    _exit(0);
}

int main(int argc, char **argv) {
    int gate[2], count = argc == 2 ? atoi(argv[1]) : 0;
    char line[16];
    if (count <= 0)
        return 2;
    alarm(PATIENCE);
    struct orphans *orphans = mmap(NULL, sizeof *orphans + (size_t)count * sizeof orphans->pid[0],
                                   PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (orphans == MAP_FAILED || pipe(gate) != 0 || make_orphans(orphans, count, gate) != 0) {
        perror("cannot make the orphans");
        return 1;
    }
    while (orphans->waiting < count)
        nanosleep(&PAUSE, NULL);

    printf("ready\n");
    fflush(stdout);
    if (read(STDIN_FILENO, line, sizeof line) <= 0)
        return 1;

    long long before = now();
    close(gate[1]);
    for (int number = 0; number < count; number++)
        while (kill(orphans->pid[number], 0) == 0)
            nanosleep(&PAUSE, NULL);
    printf("%lld\n", now() - before);
    fflush(stdout);
    return read(STDIN_FILENO, line, sizeof line) < 0; /* until the init has been looked at */
}
