/* ping PID COUNT: send SIGUSR1 to PID and wait for a byte on standard input, COUNT times.
 *
 * Prints each round trip in nanoseconds, at the end: nothing but kill(2), read(2) and the clock is in between.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

enum { PATIENCE = 60 }; /* seconds, then SIGALRM: a signal was lost */

static long long now(void) {
    struct timespec moment;
    clock_gettime(CLOCK_MONOTONIC, &moment);
    return moment.tv_sec * 1000000000LL + moment.tv_nsec;
}

int main(int argc, char **argv) {
    pid_t pid = argc == 3 ? atoi(argv[1]) : 0;
    int count = argc == 3 ? atoi(argv[2]) : 0;
    long long *taken = calloc((size_t)count + 1, sizeof *taken);
    char answer;

    if (pid <= 1 || count <= 0 || taken == NULL)
        return 2;
    alarm(PATIENCE);
    for (int round = 0; round < count; round++) {
        long long before = now();
        if (kill(pid, SIGUSR1) != 0 || read(STDIN_FILENO, &answer, 1) != 1) {
            perror("no answer to SIGUSR1");
            return 1;
        }
        taken[round] = now() - before;
    }
    for (int round = 0; round < count; round++)
        printf("%lld\n", taken[round]);
    return 0;
}
