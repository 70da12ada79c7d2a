/* A PAM client that can stand still: every answer it is given goes on in a process of its own.
 *
 *     holder whole|apart SERVICE USER [rhost=ADDRESS] [NAME=VALUE...]      NAME=VALUE goes into the PAM environment
 *
 * "whole": the module is in this process, which can be forked in the middle of a transaction. "apart": it asks another
 * one, which cannot, so each child comes to the prompt in a transaction of its own.
 *
 * One command a line on standard input, one reply a line on standard output:
 *
 *     fork HEX    a child goes on with this answer              child PID
 *     stop HEX    the same, but it stops itself (SIGSTOP) first child PID
 *     gate HEX    the same, but it waits for "go"               child PID
 *     go          let all that wait go at once                  gone
 *     wait        until a child has ended                       end PID exit CODE | end PID signal NUMBER
 *     close MASK  later children close descriptor 0, 1 and 2   closed
 *     hold        go on to the prompt and stand still there     held | done CODE
 *
 * A child's exit code is what pam_authenticate returned. Before "hold" children begin with pam_authenticate, afterwards
 * at the prompt, in the middle of it; "apart" they are there, or have ended, when their pid is told, and "stop" is what
 * "gate" is. HEX are the answer's bytes; "-" is no answer, "!" a conversation that fails.
 */
#include <security/pam_appl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

static pam_handle_t *pamh;
static char *answer; /* in a child: what it was given */
static int child, holding, closing, apart;
static int gate[2], ready[2] = {-1, -1};
static char **arguments;

static void serve(void);

static void wait_for_the_gate(void)
{
    char byte;
    while (read(gate[0], &byte, 1) > 0)
        ;
    close(gate[0]);
}

static char *decoded(const char *hex)
{
    size_t size = strlen(hex) / 2;
    char *bytes = calloc(1, size + 1);
    unsigned value;
    for (size_t i = 0; i < size; i++) {
        sscanf(hex + 2 * i, "%2x", &value);
        bytes[i] = (char)value;
    }
    return bytes;
}

static int converse(int count, const struct pam_message **messages, struct pam_response **responses, void *data)
{
    struct pam_response *all = calloc(count, sizeof *all);
    (void)data;
    for (int i = 0; i < count; i++) {
        int style = messages[i]->msg_style;
        if (style != PAM_PROMPT_ECHO_OFF && style != PAM_PROMPT_ECHO_ON) {
            fprintf(stderr, "%s\n", messages[i]->msg);
            continue;
        }
        if (holding && !child) {
            puts("held");
            serve(); /* returns in children only */
        }
        if (ready[1] >= 0) { /* a child that has come here by itself */
            close(ready[1]);
            ready[1] = -1;
            wait_for_the_gate();
        }
        if (strcmp(answer, "!") == 0) {
            free(all);
            return PAM_CONV_ERR;
        }
        all[i].resp = strcmp(answer, "-") == 0 ? NULL : decoded(answer);
    }
    *responses = all;
    return PAM_SUCCESS;
}

static void begin(void)
{
    static const struct pam_conv conversation = {converse, NULL};
    if (pam_start(arguments[2], arguments[3], &conversation, &pamh) != PAM_SUCCESS)
        _exit(99);
    for (char **item = arguments + 4; *item; item++) {
        if (strncmp(*item, "rhost=", 6) == 0)
            pam_set_item(pamh, PAM_RHOST, *item + 6);
        else
            pam_putenv(pamh, *item);
    }
}

static void start(const char *how, const char *text)
{
    int anew = apart && holding;
    char byte;
    if (anew && pipe(ready))
        _exit(99);
    pid_t pid = fork();
    if (pid > 0) {
        if (anew) {
            close(ready[1]);
            while (read(ready[0], &byte, 1) > 0)
                ;
            close(ready[0]);
            ready[0] = ready[1] = -1;
        }
        printf("child %d\n", pid);
        return;
    }
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    child = 1;
    answer = strdup(text);
    close(gate[1]);
    if (anew) {
        close(ready[0]);
        if (strcmp(how, "fork") == 0) {
            close(gate[0]);
            gate[0] = -1;
        }
        begin();
        _exit(pam_authenticate(pamh, 0));
    }
    for (int i = 0; i < 3; i++)
        if (closing & 1 << i)
            close(i);
    if (strcmp(how, "stop") == 0)
        raise(SIGSTOP);
    if (strcmp(how, "gate") == 0)
        wait_for_the_gate();
    else
        close(gate[0]);
}

static void serve(void)
{
    char *line = NULL, *word, *rest;
    size_t size = 0;
    int status;
    fflush(stdout);
    while (!child && getline(&line, &size, stdin) > 0) {
        word = strtok_r(line, " \n", &rest);
        if (strcmp(word, "hold") == 0) {
            holding = 1;
            status = pam_authenticate(pamh, 0);
            if (child)
                _exit(status);
            holding = 0;
            printf("done %d\n", status);
        } else if (strcmp(word, "go") == 0) {
            close(gate[1]);
            close(gate[0]);
            status = pipe(gate);
            puts(status ? "failed" : "gone");
        } else if (strcmp(word, "close") == 0) {
            closing = atoi(strtok_r(NULL, " \n", &rest));
            puts("closed");
        } else if (strcmp(word, "wait") == 0) {
            pid_t pid = wait(&status);
            if (WIFEXITED(status))
                printf("end %d exit %d\n", pid, WEXITSTATUS(status));
            else
                printf("end %d signal %d\n", pid, WTERMSIG(status));
        } else {
            rest = strtok_r(NULL, " \n", &rest);
            start(word, rest ? rest : "");
        }
        if (!child)
            fflush(stdout);
    }
    if (!child)
        _exit(0);
}

int main(int argc, char **argv)
{
    if (argc < 4 || pipe(gate))
        return 99;
    arguments = argv;
    apart = strcmp(argv[1], "apart") == 0;
    begin();
    serve();
    _exit(pam_authenticate(pamh, 0));
}
