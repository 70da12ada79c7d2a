/*
 * pam_totp.so: carries one hook of a PAM transaction to pam_totp/engine/helper.py and its answer back.
 *
 * This file decides nothing about codes. It starts /usr/bin/python3 apart from the program that called PAM, sends one
 * request, serves the helper's questions (prompt, message, token), and returns the result that the helper names. Only
 * the words in `results` are results. Whatever else happens is PAM_SERVICE_ERR and one line in the log.
 *
 * A helper that is warm, a fork of a process that has everything imported, is asked first: behind WARM. Where it does not
 * say at once who it is, nothing has been sent yet, and one is started.
 *
 * A message, either way: PROTOCOL, a letter for its kind, the length of its text (two bytes, high one first), the text.
 *   to the helper     Q request (fields, each "-" or "=" and its text, and a NUL)   A answer   N no answer   D done
 *   from the helper   H (a warm one, first of all) the program that it is made of
 *                     P hidden prompt   E prompt   I information   T token
 *                     R result (a word, or a word, a NUL and what to keep until the transaction ends)
 *
 * Nothing is global: threads may run one transaction each.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#include <security/pam_ext.h>
#include <security/pam_modules.h>

#ifndef PYTHON /* tests put other programs in its place */
#define PYTHON "/usr/bin/python3"
#endif
#ifndef LIMIT /* milliseconds for each step of the helper; it waits for a lock for 10 s, and for the disk for 10 s */
#define LIMIT 30000
#endif
#ifndef WARM
#define WARM "/run/pam-totp/login.sock"
#endif
#ifndef SOON /* milliseconds for a warm helper to say who it is: longer would cost more than starting one */
#define SOON 100
#endif
#define LIBRARY "/usr/lib/python3/dist-packages"
/* No site, no user's or current directory, no variables: the standard library and this one directory. */
#define PROGRAM \
    "import sys; sys.path.append('" LIBRARY "'); from pam_totp.engine import helper; helper.main()"

#define EXPORT __attribute__((visibility("default")))
#define PROTOCOL 1
#define HEAD 4
#define LONGEST 65535
#define STACK 32768
#define KEPT "pam_totp_kept"

struct message {
    size_t size;                    /* of the text */
    char bytes[HEAD + LONGEST + 1]; /* head, text, and room for a NUL */
};

#define RESULT(name) { #name, name }
static const struct {
    const char *word;
    int code;
} results[] = {
    RESULT(PAM_SUCCESS), RESULT(PAM_IGNORE), RESULT(PAM_AUTH_ERR), RESULT(PAM_USER_UNKNOWN), RESULT(PAM_CONV_ERR),
    RESULT(PAM_AUTHINFO_UNAVAIL), RESULT(PAM_SERVICE_ERR),
};

/* The one way in which anything fails; errno says why. */
static int failed(const pam_handle_t *pamh, const char *what)
{
    pam_syslog(pamh, LOG_ERR, "outcome=error reason=helper-failed detail=\"%s: %m\"", what);
    return PAM_SERVICE_ERR;
}

static void forget(pam_handle_t *pamh, void *kept, int status)
{
    (void)pamh, (void)status;
    if (kept) {
        explicit_bzero(kept, strlen(kept));
        free(kept);
    }
}

/* Messages */

static void clear(struct message *message)
{
    explicit_bzero(message, sizeof *message);
}

static char *text(struct message *message)
{
    return message->bytes + HEAD;
}

static int add(struct message *message, const char *what, size_t size)
{
    if (size > LONGEST - message->size)
        return -1;
    memcpy(text(message) + message->size, what, size);
    message->size += size;
    return 0;
}

static int add_field(struct message *message, const char *field)
{
    if (!field)
        return add(message, "-", sizeof "-");
    return add(message, "=", 1) || add(message, field, strlen(field) + 1);
}

static long long milliseconds(void)
{
    struct timespec now = { 0, 0 };
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000LL + now.tv_nsec / 1000000;
}

/* Send or receive exactly so many bytes before a point in time, whatever signals the program gets meanwhile. */
static int transfer(int socket, short direction, char *bytes, size_t size, long long until)
{
    while (size) {
        struct pollfd wanted = { socket, direction, 0 };
        long long left = until - milliseconds();
        int ready = poll(&wanted, 1, left > 0 ? (int)left : 0);
        ssize_t moved = -1;
        if (ready == 0)
            errno = ETIMEDOUT;
        else if (ready > 0 && direction == POLLIN)
            moved = recv(socket, bytes, size, MSG_DONTWAIT);
        else if (ready > 0)
            moved = send(socket, bytes, size, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (moved < 0 && (errno == EINTR || errno == EAGAIN))
            continue;
        if (moved == 0)
            errno = ECONNRESET;
        if (moved <= 0)
            return -1;
        bytes += moved;
        size -= (size_t)moved;
    }
    return 0;
}

static int put(int socket, char kind, struct message *message)
{
    message->bytes[0] = PROTOCOL;
    message->bytes[1] = kind;
    message->bytes[2] = (char)(message->size >> 8);
    message->bytes[3] = (char)(message->size & 255);
    return transfer(socket, POLLOUT, message->bytes, HEAD + message->size, milliseconds() + LIMIT);
}

/* The kind of the next message, or -1. Its text ends with a NUL. */
static int get(int socket, struct message *message, long long until)
{
    message->size = 0;
    if (transfer(socket, POLLIN, message->bytes, HEAD, until))
        return -1;
    if (message->bytes[0] != PROTOCOL) {
        errno = EPROTO;
        return -1;
    }
    message->size = (size_t)(unsigned char)message->bytes[2] << 8 | (unsigned char)message->bytes[3];
    if (transfer(socket, POLLIN, text(message), message->size, until))
        return -1;
    text(message)[message->size] = 0;
    return (unsigned char)message->bytes[1];
}

/* The helper's process */

struct start {
    int socket, error;
    char *stack;
};

/* In the helper's process, which still shares this one's memory: nothing here may allocate, lock or log. */
static int become_helper(void *data)
{
    static char *const argv[] = { PYTHON, "-I", "-S", "-E", "-s", "-P", "-B", "-c", PROGRAM, NULL };
    static char *const environment[] = { NULL };
    /* A user may have lowered these for su or sudo. Where root itself may not raise them, they are as high as they can be. */
    static const struct { __rlimit_resource_t what; rlim_t value; } limits[] = {
        { RLIMIT_CORE, 0 },          { RLIMIT_CPU, 300 },          { RLIMIT_NOFILE, 256 },
        { RLIMIT_STACK, 8 << 20 },   { RLIMIT_AS, RLIM_INFINITY }, { RLIMIT_DATA, RLIM_INFINITY },
        { RLIMIT_NPROC, RLIM_INFINITY }, { RLIMIT_FSIZE, RLIM_INFINITY },
    };
    struct start *start = data;
    struct sigaction standard = { .sa_handler = SIG_DFL };
    const struct sched_param usual = { 0 };
    cpu_set_t every;
    sigset_t none;
    int null;

    for (int number = 1; number < NSIG; number++)
        sigaction(number, &standard, NULL);
    for (size_t i = 0; i < sizeof limits / sizeof *limits; i++) {
        struct rlimit limit = { limits[i].value, limits[i].value };
        if (setrlimit(limits[i].what, &limit) && getrlimit(limits[i].what, &limit) == 0) {
            limit.rlim_cur = limit.rlim_max;
            setrlimit(limits[i].what, &limit);
        }
    }
    /* What it locks, others wait for: no user may give it the least share of the processor (nice, chrt), or of one that is
     * kept busy (taskset), or of the disk. */
    memset(&every, 255, sizeof every);
    sched_setaffinity(0, sizeof every, &every);
    sched_setscheduler(0, SCHED_OTHER, &usual);
    setpriority(PRIO_PROCESS, 0, 0);
    syscall(SYS_ioprio_set, 1, 0, 0);
    umask(077);
    /* The bare calls: those of libc would tell every thread of the caller to change its ids too. Last the user's id, as
     * it takes the right to change the others. In su and sudo it is what keeps the user from signalling the helper. */
    if (setsid() >= 0 && syscall(SYS_setgroups, 0, NULL) == 0 && syscall(SYS_setresgid, 0, 0, 0) == 0
        && syscall(SYS_setresuid, 0, 0, 0) == 0 && chdir("/") == 0 && (null = open("/dev/null", O_RDWR)) >= 0
        && dup2(null, 0) == 0 && dup2(null, 1) == 1 && dup2(null, 2) == 2 && dup2(start->socket, 3) == 3
        && close_range(4, ~0U, 0) == 0) {
        sigemptyset(&none);
        sigprocmask(SIG_SETMASK, &none, NULL);
        execve(PYTHON, argv, environment);
    }
    start->error = errno;
    return 127;
}

/* The process in the middle: it ends at once, so that the helper is nobody's child but init's. */
static int middle(void *data)
{
    struct start *start = data;
    if (clone(become_helper, start->stack + STACK, CLONE_VM | CLONE_VFORK | SIGCHLD, start) < 0)
        start->error = errno;
    return 0;
}

/*
 * Start the helper so that the program never learns of it: login(1) and vsftpd take any child's end for that of the
 * child they wait for. A process that was cloned without a signal ends without one, and only a wait with __WCLONE sees
 * it; exec would give it SIGCHLD again, so the helper is its child. This thread stands still meanwhile (CLONE_VFORK),
 * with signals blocked, as no handler of the program may run in the others.
 */
static int start_helper(int socket)
{
    struct start start = { socket, 0, malloc(2 * STACK) };
    sigset_t all, before;
    int pid;

    if (!start.stack)
        return -1;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &before);
    pid = clone(middle, start.stack + 2 * STACK, CLONE_VM | CLONE_VFORK, &start);
    if (pid < 0)
        start.error = errno;
    while (pid > 0 && waitpid(pid, NULL, (int)__WCLONE) < 0 && errno == EINTR)
        ;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    free(start.stack);
    errno = start.error;
    return start.error ? -1 : 0;
}

/* Close a descriptor if there is one, and keep errno. */
static void drop(int descriptor)
{
    int error = errno;
    if (descriptor >= 0)
        close(descriptor);
    errno = error;
}

/* The same descriptor, but none of the standard streams, which the program may have closed; -1 if there is none. */
static int lifted(int low)
{
    int high = fcntl(low, F_DUPFD_CLOEXEC, 4);
    drop(low);
    return high;
}

/*
 * A connection to a warm helper, or -1. It has to be root's, and made of the very file that is installed now: after an
 * upgrade the old one is passed over. Nothing that goes wrong here is an error, as a helper can always be started.
 */
static int warm_helper(struct message *message)
{
    static const struct sockaddr_un address = { AF_UNIX, WARM };
    char installed[64];
    struct ucred peer = { 0, 1, 1 };
    socklen_t size = sizeof peer;
    struct stat file;
    int warm = lifted(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));

    if (warm >= 0 && stat(LIBRARY "/pam_totp/engine/helper.py", &file) == 0
        && connect(warm, (const struct sockaddr *)&address, sizeof address) == 0
        && getsockopt(warm, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 && peer.uid == 0
        && get(warm, message, milliseconds() + SOON) == 'H'
        && snprintf(installed, sizeof installed, "%ju %jd.%09ld", (uintmax_t)file.st_ino,
            (intmax_t)file.st_ctim.tv_sec, (long)file.st_ctim.tv_nsec) > 0 && strcmp(text(message), installed) == 0)
        return warm;
    drop(warm);
    return -1;
}

/* A connection to a helper, warm or started now, or -1. */
static int connect_helper(struct message *message)
{
    int ends[2], helper = warm_helper(message), its_end;

    if (helper >= 0 || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends))
        return helper;
    helper = lifted(ends[0]);
    its_end = lifted(ends[1]);
    if (helper >= 0 && (its_end < 0 || start_helper(its_end))) {
        drop(helper);
        helper = -1;
    }
    drop(its_end);
    return helper;
}

/* What the helper asks for */

/* Say the message's text to the user; the kind of the reply, whose text is then in the message. */
static char converse(pam_handle_t *pamh, int style, struct message *message)
{
    const void *item = NULL;
    const struct pam_message said = { style, text(message) }, *all = &said;
    struct pam_response *response = NULL;
    int code = pam_get_item(pamh, PAM_CONV, &item);
    const struct pam_conv *conversation = item;
    char reply = style == PAM_TEXT_INFO ? 'D' : 'N';

    if (code == PAM_SUCCESS)
        code = conversation && conversation->conv
            ? conversation->conv(1, &all, &response, conversation->appdata_ptr) : PAM_CONV_ERR;
    clear(message);
    if (code != PAM_SUCCESS || !response) /* what a conversation leaves behind when it fails is not ours */
        return reply;
    if (response->resp) {
        size_t size = strlen(response->resp);
        if (reply == 'N' && add(message, response->resp, size) == 0)
            reply = 'A';
        explicit_bzero(response->resp, size);
        free(response->resp);
    }
    free(response);
    return reply;
}

static int result(pam_handle_t *pamh, struct message *message)
{
    char *word = text(message), *kept = NULL;
    size_t size = strlen(word);

    if (size < message->size) {
        kept = word + size + 1;
        if (strlen(kept) != message->size - size - 1)
            kept = word = NULL;
    }
    for (size_t i = 0; word && i < sizeof results / sizeof *results; i++) {
        if (strcmp(word, results[i].word) != 0)
            continue;
        if (kept) {
            kept = strdup(kept);
            if (!kept || pam_set_data(pamh, KEPT, kept, forget) != PAM_SUCCESS) {
                forget(pamh, kept, 0);
                errno = ENOMEM;
                return failed(pamh, "what the helper gave to keep was lost");
            }
        }
        return results[i].code;
    }
    errno = EPROTO;
    return failed(pamh, "the helper gave no result that is known");
}

/* Do what the helper asks for until it gives its result. */
static int serve(pam_handle_t *pamh, int socket, struct message *message)
{
    for (;;) {
        int kind = get(socket, message, milliseconds() + LIMIT);
        int style = kind == 'P' ? PAM_PROMPT_ECHO_OFF : kind == 'E' ? PAM_PROMPT_ECHO_ON : PAM_TEXT_INFO;
        char reply;
        if (kind < 0)
            return failed(pamh, "the helper gave no result");
        if (kind == 'R')
            return result(pamh, message);
        if (!kind || !strchr("PEIT", kind) || strlen(text(message)) != message->size) {
            errno = EPROTO;
            return failed(pamh, "the helper sent what is no message");
        }
        if (kind == 'T') {
            reply = pam_set_item(pamh, PAM_AUTHTOK, text(message)) == PAM_SUCCESS ? 'D' : 'N';
            clear(message);
        } else {
            reply = converse(pamh, style, message);
        }
        if (put(socket, reply, message))
            return failed(pamh, "the helper takes no answer");
    }
}

static int request(pam_handle_t *pamh, const char *hook, int argc, const char **argv, struct message *message)
{
    static const int items[] = { PAM_SERVICE, PAM_RHOST };
    const char *user = NULL;
    const void *item = NULL;
    int wrong = add_field(message, hook) || add_field(message, program_invocation_short_name);

    if (pam_get_user(pamh, &user, NULL) != PAM_SUCCESS)
        user = NULL;
    wrong = wrong || add_field(message, user);
    for (size_t i = 0; i < sizeof items / sizeof *items; i++) {
        wrong = wrong || pam_get_item(pamh, items[i], &item) != PAM_SUCCESS || add_field(message, item);
        item = NULL;
    }
    wrong = wrong || add_field(message, pam_getenv(pamh, "SSH_AUTH_INFO_0"));
    if (pam_get_data(pamh, KEPT, &item) != PAM_SUCCESS)
        item = NULL;
    wrong = wrong || add_field(message, item);
    for (int i = 0; i < argc; i++)
        wrong = wrong || add_field(message, argv[i]);
    errno = EMSGSIZE;
    return wrong ? -1 : 0;
}

static int ask_helper(pam_handle_t *pamh, const char *hook, int argc, const char **argv)
{
    struct message *message = calloc(1, sizeof *message);
    int helper, code;

    if (!message)
        return failed(pamh, "no memory");
    helper = connect_helper(message);
    clear(message);
    if (helper < 0) {
        code = failed(pamh, "cannot start " PYTHON);
    } else {
        if (request(pamh, hook, argc, argv, message))
            code = failed(pamh, "the transaction does not fit into a request");
        else if (put(helper, 'Q', message))
            code = failed(pamh, "the helper takes no request");
        else
            code = serve(pamh, helper, message);
        /* Also for what another thread may have forked meanwhile: the helper ends when this is closed. */
        shutdown(helper, SHUT_RDWR);
        close(helper);
    }
    clear(message);
    free(message);
    return code;
}

/* The hooks */

static int misplaced(const pam_handle_t *pamh, const char *kind)
{
    pam_syslog(pamh, LOG_ERR, "outcome=misconfigured reason=misplaced detail=\"remove pam_totp.so from %s lines: it "
        "belongs in auth lines only\"", kind);
    return PAM_SERVICE_ERR;
}

EXPORT int pam_sm_authenticate(pam_handle_t *pamh, int flags, int argc, const char **argv)
{
    (void)flags;
    return ask_helper(pamh, "auth", argc, argv);
}

/* There are no credentials to set. PAM calls this for every auth line, so it must not deny. */
EXPORT int pam_sm_setcred(pam_handle_t *pamh, int flags, int argc, const char **argv)
{
    (void)pamh, (void)flags, (void)argc, (void)argv;
    return PAM_IGNORE;
}

EXPORT int pam_sm_acct_mgmt(pam_handle_t *pamh, int flags, int argc, const char **argv)
{
    const void *kept = NULL;
    (void)flags;
    if (argc != 1 || strcmp(argv[0], "combined=verify") != 0)
        return misplaced(pamh, "account");
    /* No answer was split in this transaction: another method than PAM's let the user in, and nothing is to be done. */
    if (pam_get_data(pamh, KEPT, &kept) == PAM_NO_MODULE_DATA)
        return PAM_IGNORE;
    return ask_helper(pamh, "account", argc, argv);
}

#define MISPLACED(hook, kind) \
    EXPORT int hook(pam_handle_t *pamh, int flags, int argc, const char **argv) \
    { \
        (void)flags, (void)argc, (void)argv; \
        return misplaced(pamh, kind); \
    }

MISPLACED(pam_sm_open_session, "session")
MISPLACED(pam_sm_close_session, "session")
MISPLACED(pam_sm_chauthtok, "password")
