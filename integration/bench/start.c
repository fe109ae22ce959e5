/* start COMMAND [ARG]...               run COMMAND, and print the nanoseconds from posix_spawn(3) to its end
 * start -u FIFO COMMAND [ARG]...       until the moment that `first` writes to FIFO, which COMMAND is to run
 * start -k FIFO COMMAND [ARG]...       the same, and then it is killed, and all that it has started
 *
 * A small parent, so that neither copying an interpreter's page tables nor its start is in the figure.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

enum { PATIENCE = 60 }; /* seconds, then SIGALRM */

static long long now(void) {
    struct timespec moment;
    clock_gettime(CLOCK_MONOTONIC, &moment);
    return moment.tv_sec * 1000000000LL + moment.tv_nsec;
}

static long long read_moment(const char *path) {
    long long moment = 0;
    int fifo = open(path, O_RDONLY);
    if (fifo < 0 || read(fifo, &moment, sizeof moment) != sizeof moment)
        return -1;
    close(fifo);
    return moment;
}

/* KILL to all children, and to those that become ours because their parents die, until there are none. */
static void kill_all(void) {
    char path[64], text[4096];
    snprintf(path, sizeof path, "/proc/self/task/%d/children", (int)getpid());
    do {
        int file = open(path, O_RDONLY);
        ssize_t size = read(file, text, sizeof text - 1);
        close(file);
        text[size > 0 ? size : 0] = '\0';
        for (char *word = text; *word != '\0'; word += strcspn(word, " "), word += *word == ' ')
            kill(atoi(word), SIGKILL);
    } while (waitpid(-1, NULL, 0) > 0);
}

int main(int argc, char **argv) {
    pid_t pid;
    int status = 0, failure, kills = 0;
    long long before, after;
    const char *fifo = NULL;

    if (argc > 3 && (strcmp(argv[1], "-u") == 0 || strcmp(argv[1], "-k") == 0)) {
        kills = argv[1][1] == 'k';
        fifo = argv[2];
        argv += 2;
        prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); /* for a supervisor's helpers, when it has ended */
    } else if (argc < 2)
        return 2;
    alarm(PATIENCE);
    before = now();
    failure = posix_spawn(&pid, argv[1], NULL, NULL, argv + 1, environ);
    if (failure != 0) {
        fprintf(stderr, "cannot run %s: %s\n", argv[1], strerror(failure));
        return 1;
    }
    after = fifo != NULL ? read_moment(fifo) : 0;
    if (kills)
        kill_all();
    else
        while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
            ;
    if (fifo == NULL)
        after = now();
    if (after < 0 || status != 0) {
        fprintf(stderr, "%s ended with wait status %#x\n", argv[1], (unsigned)status);
        return 1;
    }
    printf("%lld\n", after - before);
    return 0;
}
