/*
 * PAM transactions one after the other in one process, as a daemon makes them.
 *
 * The argument is the PAM service. Each line of standard input is one transaction, with tabs between its fields: user,
 * remote host, SSH_AUTH_INFO_0, what the conversation does (answer, nothing, refuse, abort), and its answer. Each line
 * of output is what came of it: the code that pam_authenticate returned, the number of prompts, and all that was shown,
 * with | in the place of each end of a line.
 */
#include <security/pam_appl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct talk {
    const char *manner, *answer;
    int prompts;
    char shown[4096];
};

static int converse(int count, const struct pam_message **messages, struct pam_response **responses, void *data)
{
    struct talk *talk = data;
    struct pam_response *replies = calloc(count, sizeof *replies);
    for (int i = 0; i < count; i++) {
        strncat(talk->shown, messages[i]->msg, sizeof talk->shown - strlen(talk->shown) - 2);
        strcat(talk->shown, "|");
        if (messages[i]->msg_style != PAM_PROMPT_ECHO_OFF && messages[i]->msg_style != PAM_PROMPT_ECHO_ON)
            continue;
        talk->prompts++;
        if (!strcmp(talk->manner, "answer"))
            replies[i].resp = strdup(talk->answer);
        if (!strcmp(talk->manner, "refuse") || !strcmp(talk->manner, "abort")) {
            free(replies);
            return strcmp(talk->manner, "abort") ? PAM_CONV_ERR : PAM_ABORT;
        }
    }
    *responses = replies;
    return PAM_SUCCESS;
}

int main(int argc, char **argv)
{
    char line[8192];
    while (argc == 2 && fgets(line, sizeof line, stdin)) {
        char *fields[5], *rest = line, info[4096];
        struct talk talk = {0};
        struct pam_conv conversation = {converse, &talk};
        pam_handle_t *pam = NULL;
        line[strcspn(line, "\n")] = 0;
        for (int i = 0; i < 5; i++)
            if (!(fields[i] = strsep(&rest, "\t")))
                return 2;
        talk.manner = fields[3];
        talk.answer = fields[4];
        if (pam_start(argv[1], fields[0], &conversation, &pam) != PAM_SUCCESS)
            return 3;
        pam_set_item(pam, PAM_RHOST, fields[1]);
        if (*fields[2]) {
            snprintf(info, sizeof info, "SSH_AUTH_INFO_0=%s", fields[2]);
            pam_putenv(pam, info);
        }
        int code = pam_authenticate(pam, 0);
        if (code == PAM_SUCCESS)
            pam_setcred(pam, PAM_ESTABLISH_CRED);
        pam_end(pam, code);
        for (char *end; (end = strchr(talk.shown, '\n'));)
            *end = '|';
        printf("%d\t%d\t%s\n", code, talk.prompts, talk.shown);
        fflush(stdout);
    }
    return argc == 2 ? 0 : 2;
}
