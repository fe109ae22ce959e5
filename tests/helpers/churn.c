/* Processes that are forked and end all the time, in a PID namespace whose numbers are given again at once.
 *
 * churn inside CHAINS KIND     as COMMAND: starts chains of processes, each of which lives for a moment, and ends when
 *                              it has forked the next one; says `ready`, waits for a line, and exits with 5
 * churn outside                until standard input ends: canaries. Each blocks all signals, has children, maybe leads a
 *                              group, and looks at its end whether a signal came. Prints those that got one, and a count.
 *                              It has the kernel begin again with FIRST, by ns_last_pid (proc(5)).
 *
 * KIND: `plain`; `stay`, whose processes wait for the next one, so that the chains hang together for a while;
 * `zombies`, whose processes also leave zombies.
 */
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { FIRST = 300, WINDOW = 60, CANARIES = 12, PATIENCE = 60 };

static void rest(int most) { /* microseconds */
    struct timespec time = {0, 1000L * (rand() % most)};
    nanosleep(&time, NULL);
}

static void chain(const char *kind) {
    for (;;) {
        srand(getpid() + clock());
        if (rand() % 3 == 0)
            setsid();
        if (*kind == 'z' && fork() == 0)
            _exit(0);
        rest(20000);
        pid_t next = fork();
        if (next == 0)
            continue;
        if (next > 0 && *kind == 's' && rand() % 4 != 0)
            waitpid(next, NULL, 0);
        if (*kind == 'z')
            rest(60000);
        if (next > 0)
            _exit(0);
    }
}

static int inside(int count, const char *kind) {
    for (int number = 0; number < count; number++)
        if (fork() == 0) {
            alarm(PATIENCE);
            close(1);
            chain(kind);
        }
    if (write(1, "ready\n", 6) != 6 || read(0, &count, 1) < 0)
        return 1;
    return 5;
}

static int signalled(void) { /* the number of a signal that has come; 0 if none has */
    sigset_t pending;
    sigpending(&pending);
    for (int number = 1; number < NSIG; number++)
        if (number != SIGCHLD && sigismember(&pending, number))
            return number;
    return 0;
}

static void canary(int depth) {
    srand(getpid() + clock());
    if (rand() % 2)
        setpgid(0, 0);
    int child = 0, status = 0;
    if (depth > 0)
        child = fork();
    if (depth > 0 && child == 0)
        canary(depth - 1);
    rest(3000);
    if (child > 0) {
        waitpid(child, &status, 0);
        if (status)
            _exit(WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
    }
    _exit(signalled());
}

static void begin_again(void) {
    int last = open("/proc/sys/kernel/ns_last_pid", O_WRONLY | O_CLOEXEC);
    if (last < 0 || write(last, "299", 3) != 3)
        _exit(97);
    close(last);
}

static int outside(void) {
    sigset_t all;
    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, NULL);
    long count = 0;
    int alive = 0, status;
    for (struct pollfd input = {0, POLLIN, 0}; poll(&input, 1, 0) == 0;) {
        while (alive < CANARIES) {
            pid_t pid = fork();
            if (pid == 0)
                canary(rand() % 3);
            if (pid > FIRST + WINDOW)
                begin_again();
            alive++;
        }
        for (pid_t pid; alive > CANARIES / 2 && (pid = waitpid(-1, &status, 0)) > 0; alive--, count++)
            if (status)
                printf("canary %d: status %x\n", pid, status);
    }
    while (waitpid(-1, &status, 0) > 0)
        count++;
    printf("%ld canaries, own signal %d\n", count, signalled());
    return 0;
}

int main(int argc, char **argv) {
    return argc == 4 ? inside(atoi(argv[2]), argv[3]) : outside();
}
