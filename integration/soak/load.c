/* COMMAND of the soak: `load CONTROL OUT RATE` writes one byte to OUT for each signal that comes: its number.
 *
 * What it does else is told by bytes on CONTROL, a FIFO as OUT is:
 *   +  -  make RATE orphans a second, or none; after HUNDRED of them one byte says so
 *   h     start a child that takes memory until it is killed; a byte says whether that was by SIGKILL
 *   x     execute itself anew, and say so
 *   q     leave three processes behind, one of which ignores TERM, and exit with 7
 * `load leave` ends at once, and leaves behind a process in a session of its own, which ends a little later.
 */
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { HUNDRED = 200, KILLED, NOT_KILLED, EXECUTED, READY, FAILED };
enum { TICK = 10, MOST_AT_ONCE = 50, MOST_MEMORY = 1 << 30, LONGEST_LIFE = 40000, STATUS = 7 };

static int out;

static void tell(unsigned char what) {
    if (write(out, &what, 1) != 1)
        _exit(99);
}

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec + time.tv_nsec / 1e9;
}

static int make_orphans(int count) {
    int seed = rand();
    pid_t middle = fork();
    if (middle < 0)
        return 0; /* the machine is full: later */
    if (middle != 0)
        return count;
    for (int number = 0; number < count; number++)
        if (fork() == 0) {
            srand(seed + number);
            if (rand() % 4 == 0)
                setsid();
            usleep(rand() % 2 ? 0 : rand() % LONGEST_LIFE);
            _exit(rand() % 256);
        }
    _exit(0);
}

static pid_t take_memory(void) {
    pid_t child = fork();
    if (child != 0)
        return child;
    int adjust = open("/proc/self/oom_score_adj", O_WRONLY);
    if (adjust < 0 || write(adjust, "1000", 4) != 4)
        _exit(1);
    for (size_t taken = 0; taken < MOST_MEMORY; taken += 1 << 20) {
        char *memory = malloc(1 << 20);
        if (memory == NULL)
            _exit(2);
        memset(memory, 1, 1 << 20);
    }
    _exit(3);
}

static void leave(int deaf, unsigned int microseconds) {
    if (fork() != 0)
        return;
    sigset_t none;
    sigemptyset(&none);
    signal(SIGTERM, deaf ? SIG_IGN : SIG_DFL);
    sigprocmask(SIG_SETMASK, &none, NULL);
    setsid();
    usleep(microseconds);
    _exit(0);
}

int main(int argc, char **argv) {
    if (argc == 2) {
        for (int number = 0; number < 3; number++)
            close(number); /* for which `docker exec` waits */
        leave(0, 200000);
        return 0;
    }
    sigset_t all;
    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, NULL);
    out = open(argv[2], O_WRONLY | O_CLOEXEC);
    struct pollfd watched[] = {{open(argv[1], O_RDWR | O_CLOEXEC), POLLIN, 0},
                               {signalfd(-1, &all, SFD_CLOEXEC | SFD_NONBLOCK), POLLIN, 0}};
    int rate = atoi(argv[3]), is_making = argc > 4 && *argv[4] == '+';
    if (out < 0 || watched[0].fd < 0 || watched[1].fd < 0)
        return 98;
    tell(argc > 4 ? EXECUTED : READY);
    double begin = now();
    long made = 0, told = 0;
    pid_t hog = 0;
    srand(getpid());
    for (;;) {
        poll(watched, 2, is_making ? TICK : -1);
        struct signalfd_siginfo info;
        while (read(watched[1].fd, &info, sizeof info) == sizeof info) {
            if (info.ssi_signo != SIGCHLD) {
                tell(info.ssi_signo);
                continue;
            }
            int status;
            for (pid_t pid; (pid = waitpid(-1, &status, WNOHANG)) > 0;)
                if (pid == hog)
                    tell(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL ? KILLED : NOT_KILLED);
        }
        char word;
        if (watched[0].revents & POLLIN && read(watched[0].fd, &word, 1) == 1) {
            if (word == '+' || word == '-') {
                is_making = word == '+';
                begin = now();
                made = told = 0;
            } else if (word == 'h') {
                hog = take_memory();
            } else if (word == 'x') {
                execl("/proc/self/exe", argv[0], argv[1], argv[2], argv[3], is_making ? "+" : "-", NULL);
                tell(FAILED);
            } else if (word == 'q') {
                for (int number = 0; number < 3; number++)
                    leave(number == 0, 60000000);
                return STATUS;
            }
        }
        long due = is_making ? (now() - begin) * rate - made : 0;
        if (due > 0) {
            due = due < MOST_AT_ONCE ? due : MOST_AT_ONCE; /* what a stop has put off is made up for */
            for (made += make_orphans(due); told + 100 <= made; told += 100)
                tell(HUNDRED);
        }
    }
}
