/* steady RATE SECONDS: COMMAND for the steady measure: so many orphans a second, each of which dies at once.
 *
 * `ready` is printed at the start, and at the end how many there were. A line on standard input ends it.
 * Every 10 ms one child starts a few others and ends; each of these ends when that has, and is the init's by then.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { BATCHES = 100, PATIENCE = 300 }; /* a second; seconds, then SIGALRM */

/* Start so many orphans. 0, or -1 if there is no process to be had. */
static int start_batch(int count) {
    int gate[2], status = 0;
    char nothing;
    if (pipe(gate) != 0)
        return -1;
    pid_t parent = fork();
    if (parent < 0)
        return -1;
    if (parent > 0) {
        close(gate[0]);
        close(gate[1]);
        waitpid(parent, &status, 0);
        return status == 0 ? 0 : -1;
    }
    for (int number = 0; number < count; number++) {
        pid_t pid = fork();
        if (pid < 0)
            _exit(1);
        if (pid == 0) {
            close(gate[1]);
            _exit(read(gate[0], &nothing, 1) != 0);
        }
    }
    _exit(0);
}

int main(int argc, char **argv) {
    int rate = argc == 3 ? atoi(argv[1]) : 0, seconds = argc == 3 ? atoi(argv[2]) : 0, made = 0;
    struct timespec next;
    char line[16];
    if (rate < BATCHES || seconds <= 0)
        return 2;
    alarm(PATIENCE);
    printf("ready\n");
    fflush(stdout);
    clock_gettime(CLOCK_MONOTONIC, &next);
    for (int batch = 0; batch < seconds * BATCHES; batch++) {
        next.tv_nsec += 1000000000 / BATCHES;
        next.tv_sec += next.tv_nsec / 1000000000;
        next.tv_nsec %= 1000000000;
        clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &next, NULL);
        if (start_batch(rate / BATCHES) != 0)
            return 1;
        made += rate / BATCHES;
    }
    printf("%d\n", made);
    fflush(stdout);
    return read(STDIN_FILENO, line, sizeof line) < 0;
}
