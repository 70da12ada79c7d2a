/*
 * A program that makes one PAM transaction under conditions that suit nobody, and says what became of it.
 *
 * Arguments: the directory with the service "test", what is answered to each prompt ("-": nothing), and conditions:
 *   user      the real uid is another, as in su and sudo, and so are the groups
 *   closed    standard input, output and error are closed (the output is what is descriptor 9)
 *   deaf      all signals are ignored, or blocked
 *   poor      limits as low as they can be
 *   umask     a umask of 0, and /tmp as the current directory
 *   idle      the least share of the processor and of the disk, and of all processors the first that it has
 *   waiting   a child of this program's own ends meanwhile, and it waits for any child as login(1) does
 *   account   also the account phase; twice: the whole transaction twice
 * Output: what pam_authenticate returned (then what pam_acct_mgmt did), "prompts" and how many there were, "children"
 * and how often SIGCHLD came, "fds" and how many more descriptors are open than before.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <sched.h>
#include <security/pam_appl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static const char *answer;
static volatile sig_atomic_t children;
static int prompts;

static int converse(int count, const struct pam_message **messages, struct pam_response **responses, void *data)
{
    (void)data;
    *responses = calloc((size_t)count, sizeof **responses);
    for (int i = 0; i < count; i++) {
        if (messages[i]->msg_style != PAM_PROMPT_ECHO_OFF && messages[i]->msg_style != PAM_PROMPT_ECHO_ON)
            continue;
        prompts++;
        if (strcmp(answer, "-") != 0)
            (*responses)[i].resp = strdup(answer);
    }
    return PAM_SUCCESS;
}

static void count_child(int number)
{
    (void)number;
    children++;
}

static int descriptors(void)
{
    int found = 0;
    DIR *directory = opendir("/proc/self/fd");
    while (directory && readdir(directory))
        found++;
    if (directory)
        closedir(directory);
    return found;
}

int main(int argc, char **argv)
{
    const struct pam_conv conversation = { converse, NULL };
    FILE *output = stdout;
    int account = 0, waiting = 0, times = 1;
    gid_t groups[] = { 1000, 1001 };

    if (argc < 3)
        return 2;
    answer = argv[2];
    signal(SIGCHLD, count_child);
    for (int i = 3; i < argc; i++) {
        if (!strcmp(argv[i], "umask")) {
            umask(0);
            if (chdir("/tmp"))
                return 2;
        } else if (!strcmp(argv[i], "idle")) {
            const struct sched_param least = { 0 };
            cpu_set_t own, first;
            int number = 0;
            sched_getaffinity(0, sizeof own, &own);
            while (!CPU_ISSET(number, &own))
                number++;
            CPU_ZERO(&first);
            CPU_SET(number, &first);
            if (sched_setaffinity(0, sizeof first, &first) || setpriority(PRIO_PROCESS, 0, 19) || sched_setscheduler(0, SCHED_IDLE, &least)
                || syscall(SYS_ioprio_set, 1, 0, 3 << 13))
                return 2;
        } else if (!strcmp(argv[i], "deaf")) {
            sigset_t all;
            for (int number = 1; number < 32; number++)
                signal(number, SIG_IGN);
            sigfillset(&all);
            sigprocmask(SIG_BLOCK, &all, NULL);
        } else if (!strcmp(argv[i], "poor")) {
            static const int kinds[] = { RLIMIT_FSIZE, RLIMIT_NPROC, RLIMIT_NOFILE, RLIMIT_STACK, RLIMIT_AS, RLIMIT_DATA };
            static const rlim_t values[] = { 4096, 0, 16, 1 << 17, 1 << 26, 1 << 26 };
            for (int kind = 0; kind < 6; kind++) {
                struct rlimit limit;
                getrlimit(kinds[kind], &limit);
                limit.rlim_cur = values[kind];
                setrlimit(kinds[kind], &limit);
            }
        } else if (!strcmp(argv[i], "closed")) {
            if (dup2(1, 9) < 0 || !(output = fdopen(9, "w")))
                return 2;
            close(0), close(1), close(2);
        } else if (!strcmp(argv[i], "user")) {
            if (setgroups(2, groups) || setresgid(1000, 0, 0) || setresuid(1000, 0, 0))
                return 2;
        } else if (!strcmp(argv[i], "waiting")) {
            waiting = 1;
        } else if (!strcmp(argv[i], "account")) {
            account = 1;
        } else if (!strcmp(argv[i], "twice")) {
            times = 2;
        }
    }
    int before = descriptors();
    while (times--) {
        pam_handle_t *pamh = NULL;
        pid_t own = waiting ? fork() : 0, other = -1;
        if (waiting && own == 0) {
            usleep(100000);
            _exit(7);
        }
        if (pam_start_confdir("test", "root", &conversation, argv[1], &pamh) != PAM_SUCCESS)
            return 3;
        int code = pam_authenticate(pamh, 0);
        fprintf(output, "%d ", code);
        if (account)
            fprintf(output, "%d ", pam_acct_mgmt(pamh, 0));
        pam_end(pamh, code);
        if (waiting)
            while ((other = wait(NULL)) < 0 && errno == EINTR)
                ;
        if (other >= 0 && other != own)
            fprintf(output, "another's child ");
        if (waitpid(-1, NULL, WNOHANG) != -1 || errno != ECHILD)
            fprintf(output, "a child is left ");
    }
    fprintf(output, "prompts %d children %d fds %d\n", prompts, (int)children, descriptors() - before);
    fclose(output);
    return 0;
}
