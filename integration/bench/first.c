/* first FIFO: COMMAND for the start: writes the time of its first instructions there, in nanoseconds. */
#include <fcntl.h>
#include <time.h>
#include <unistd.h>

int main(int argc, char **argv) {
    struct timespec moment;
    clock_gettime(CLOCK_MONOTONIC, &moment);
    long long nanoseconds = moment.tv_sec * 1000000000LL + moment.tv_nsec;
    int fifo = argc == 2 ? open(argv[1], O_WRONLY) : -1;
    return write(fifo, &nanoseconds, sizeof nanoseconds) != sizeof nanoseconds;
}
