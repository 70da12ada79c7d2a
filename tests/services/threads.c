/*
 * PAM transactions in several threads of one process, as a threaded daemon makes them.
 *
 * Arguments: the PAM service, and the number of threads. Each line of standard input is one transaction, with tabs
 * between its fields: the thread, user, remote host, and what is answered to each prompt. The first line is made before
 * there are threads.
 * Output: a line for each of the others, in their order, with what pam_authenticate returned and the number of prompts;
 * then how many kilobytes and descriptors more the process has than before the threads, and how often SIGCHLD came.
 */
#include <dirent.h>
#include <pthread.h>
#include <security/pam_appl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MOST 1024

static struct transaction {
    int thread, code, prompts;
    char user[64], rhost[64], answer[64];
} all[MOST];
static int count;
static const char *service;
static pthread_barrier_t gate;
static volatile sig_atomic_t children;

static int converse(int number, const struct pam_message **messages, struct pam_response **responses, void *data)
{
    struct transaction *wanted = data;
    *responses = calloc(number, sizeof **responses);
    for (int i = 0; i < number; i++) {
        if (messages[i]->msg_style != PAM_PROMPT_ECHO_OFF && messages[i]->msg_style != PAM_PROMPT_ECHO_ON)
            continue;
        wanted->prompts++;
        (*responses)[i].resp = strdup(wanted->answer);
    }
    return PAM_SUCCESS;
}

static void make(struct transaction *wanted)
{
    struct pam_conv conversation = {converse, wanted};
    pam_handle_t *pam = NULL;
    if (pam_start(service, wanted->user, &conversation, &pam) != PAM_SUCCESS)
        exit(3);
    pam_set_item(pam, PAM_RHOST, wanted->rhost);
    wanted->code = pam_authenticate(pam, 0);
    if (wanted->code == PAM_SUCCESS)
        pam_setcred(pam, PAM_ESTABLISH_CRED);
    pam_end(pam, wanted->code);
}

static void *work(void *data)
{
    int own = *(int *)data;
    pthread_barrier_wait(&gate);
    for (int i = 1; i < count; i++)
        if (all[i].thread == own)
            make(&all[i]);
    return NULL;
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

static long kilobytes(void)
{
    long size = 0, resident = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    if (!file || fscanf(file, "%ld %ld", &size, &resident) != 2)
        exit(4);
    fclose(file);
    return resident * (sysconf(_SC_PAGESIZE) / 1024);
}

int main(int argc, char **argv)
{
    char line[512];
    int threads, numbers[64];
    pthread_t started[64];

    if (argc != 3 || (threads = atoi(argv[2])) > 64)
        return 2;
    service = argv[1];
    signal(SIGCHLD, count_child);
    while (count < MOST && fgets(line, sizeof line, stdin)) {
        struct transaction *wanted = &all[count++];
        if (sscanf(line, "%d\t%63[^\t]\t%63[^\t]\t%63[^\n]", &wanted->thread, wanted->user, wanted->rhost, wanted->answer) != 4)
            return 2;
    }
    make(&all[0]);
    int open = descriptors();
    long memory = kilobytes();
    pthread_barrier_init(&gate, NULL, threads);
    for (int i = 0; i < threads; i++) {
        numbers[i] = i;
        if (pthread_create(&started[i], NULL, work, &numbers[i]))
            return 5;
    }
    for (int i = 0; i < threads; i++)
        pthread_join(started[i], NULL);
    for (int i = 1; i < count; i++)
        printf("%d %d\n", all[i].code, all[i].prompts);
    printf("%ld %d %d\n", kilobytes() - memory, descriptors() - open, (int)children);
    return 0;
}
