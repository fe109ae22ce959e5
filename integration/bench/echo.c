/* echo: COMMAND for the signal measure: answers each SIGUSR1 with a byte on standard output.
 *
 * The first byte says that it listens. It waits as cheaply as can be, so that what is measured is the init.
 */
#include <signal.h>
#include <unistd.h>

int main(void) {
    sigset_t awaited;
    sigemptyset(&awaited);
    sigaddset(&awaited, SIGUSR1);
    sigprocmask(SIG_BLOCK, &awaited, NULL);
    do {
        if (write(STDOUT_FILENO, ".", 1) != 1)
            return 1;
    } while (sigwaitinfo(&awaited, NULL) == SIGUSR1);
    return 1;
}
