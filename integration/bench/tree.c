/* tree COUNT: COMMAND for the teardown measure: COUNT descendants in three levels, that sleep.
 *
 * `ready` is printed when all are in place. A line on standard input ends the tree's maker, and nobody else: just before
 * it prints the time, in nanoseconds of CLOCK_MONOTONIC.
 *
 * Each of the first level has as many children as that has members, and so, but for what is missing, the second.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum { PATIENCE = 60 }; /* seconds, then SIGALRM */

static const struct timespec PAUSE = {0, 100 * 1000};

struct progress {
    atomic_int in_place;
    atomic_int error; /* of a fork that failed */
};

static struct progress *progress;

static int share(int total, int parts, int number) {
    return total / parts + (number < total % parts);
}

/* A process that starts the `below` descendants that it is to have, in `levels` levels, and sleeps. */
static void start(int below, int fan_out, int levels) {
    pid_t pid = fork();
    if (pid < 0)
        progress->error = errno;
    if (pid != 0)
        return;
    int children = levels == 1 || below < fan_out ? below : fan_out;
    for (int number = 0; number < children; number++)
        start(share(below - children, children, number), fan_out, levels - 1);
    progress->in_place++;
    for (;;)
        pause();
}

int main(int argc, char **argv) {
    int fan_out = 1, count = argc == 2 ? atoi(argv[1]) : 0;
    char line[16];
    struct timespec moment;

    if (count <= 0)
        return 2;
    alarm(PATIENCE);
    progress = mmap(NULL, sizeof *progress, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (progress == MAP_FAILED)
        return 1;
    while (fan_out * (1 + fan_out * (1 + fan_out)) < count)
        fan_out++;
    if (fan_out > count)
        fan_out = count;
    for (int number = 0; number < fan_out; number++)
        start(share(count - fan_out, fan_out, number), fan_out, 2);
    while (progress->in_place < count && progress->error == 0)
        nanosleep(&PAUSE, NULL);
    if (progress->error != 0) {
        fprintf(stderr, "cannot start %d processes: %s\n", count, strerror(progress->error));
        return 1;
    }

    printf("ready\n");
    fflush(stdout);
    if (read(STDIN_FILENO, line, sizeof line) <= 0)
        return 1;
    clock_gettime(CLOCK_MONOTONIC, &moment);
    printf("%lld\n", moment.tv_sec * 1000000000LL + moment.tv_nsec);
    return 0;
}
