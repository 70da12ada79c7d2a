/*
 * The message reader of pam_totp.so, fuzzed: what the helper may say is the input, and libpam is a stand-in.
 *
 * It aborts where a result is let through that was not said. Built with libFuzzer, or by gcc with a main() of its own
 * that runs the files it is given.
 */
#include "../../pam_totp/engine/pam_totp.c"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>

static char *kept, *token, transaction;

static int reply(int count, const struct pam_message **messages, struct pam_response **responses, void *data)
{
    static int turn;
    (void)data;
    if (count != 1 || !messages[0]->msg)
        abort();
    turn++;
    if (turn % 5 == 0)
        return PAM_CONV_ERR;
    if (turn % 5 == 1)
        return PAM_SUCCESS;
    *responses = calloc(1, sizeof **responses);
    if (turn % 5 == 2)
        return PAM_SUCCESS;
    /* As long as the question, and now and then longer than a message can be. */
    size_t size = turn % 64 == 3 ? LONGEST + 9 : strlen(messages[0]->msg);
    (*responses)->resp = malloc(size + 1);
    memset((*responses)->resp, '1', size);
    (*responses)->resp[size] = 0;
    return PAM_SUCCESS;
}

static const struct pam_conv conversation = { reply, NULL };

int pam_get_item(const pam_handle_t *pamh, int type, const void **item)
{
    (void)pamh;
    *item = type == PAM_CONV ? &conversation : NULL;
    return PAM_SUCCESS;
}

int pam_set_item(pam_handle_t *pamh, int type, const void *item)
{
    (void)pamh;
    if (type != PAM_AUTHTOK)
        abort();
    free(token);
    token = strdup(item);
    return PAM_SUCCESS;
}

int pam_set_data(pam_handle_t *pamh, const char *name, void *data, void (*clean)(pam_handle_t *, void *, int))
{
    if (strcmp(name, "pam_totp_kept") != 0)
        abort();
    if (kept)
        clean(pamh, kept, 0);
    kept = data;
    return PAM_SUCCESS;
}

int pam_get_data(const pam_handle_t *pamh, const char *name, const void **data)
{
    (void)pamh, (void)name, (void)data;
    return PAM_NO_MODULE_DATA;
}

int pam_get_user(pam_handle_t *pamh, const char **user, const char *prompt)
{
    (void)pamh, (void)prompt;
    *user = "alice";
    return PAM_SUCCESS;
}

const char *pam_getenv(pam_handle_t *pamh, const char *name)
{
    (void)pamh, (void)name;
    return NULL;
}

void pam_syslog(const pam_handle_t *pamh, int priority, const char *format, ...)
{
    char line[512];
    va_list arguments;
    (void)pamh, (void)priority;
    va_start(arguments, format);
    vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
}

/* What the messages come to, read once more in the plainest way: the word of the first result, or nothing. */
static int said(const uint8_t *data, size_t size, int *code)
{
    while (size >= HEAD) {
        size_t length = (size_t)data[2] << 8 | data[3];
        if (data[0] != PROTOCOL || length > size - HEAD || !strchr("RPEIT", data[1]) || !data[1])
            return 0;
        if (data[1] == 'R') {
            for (size_t i = 0; i < sizeof results / sizeof *results; i++) {
                size_t word = strlen(results[i].word);
                if (length >= word && memcmp(data + HEAD, results[i].word, word) == 0
                    && (length == word
                        || (data[HEAD + word] == 0
                            && !memchr(data + HEAD + word + 1, 0, length - word - 1)))) {
                    *code = results[i].code;
                    return 1;
                }
            }
            return 0;
        }
        if (memchr(data + HEAD, 0, length))
            return 0;
        data += HEAD + length;
        size -= HEAD + length;
    }
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct message *message = calloc(1, sizeof *message);
    int ends[2], wanted = PAM_SERVICE_ERR, room = 1 << 21;
    if (!message || socketpair(AF_UNIX, SOCK_STREAM, 0, ends))
        abort();
    /* Room for all that is said and answered, as nobody reads the answers. */
    setsockopt(ends[0], SOL_SOCKET, SO_SNDBUFFORCE, &room, sizeof room);
    setsockopt(ends[1], SOL_SOCKET, SO_SNDBUFFORCE, &room, sizeof room);
    if (size > 65536 || send(ends[1], data, size, MSG_DONTWAIT) != (ssize_t)size)
        goto out;
    shutdown(ends[1], SHUT_WR);
    said(data, size, &wanted);
    int code = serve((pam_handle_t *)&transaction, ends[0], message);
    if (code != wanted && code != PAM_SERVICE_ERR)
        abort();
    if (code == PAM_SERVICE_ERR && wanted == PAM_SUCCESS && size < 4096)
        abort();
out:
    close(ends[0]);
    close(ends[1]);
    forget(NULL, kept, 0);
    kept = NULL;
    free(token);
    token = NULL;
    free(message);
    return 0;
}

#ifdef ALONE
int main(int argc, char **argv)
{
    static uint8_t data[65536];
    for (int i = 1; i < argc; i++) {
        FILE *file = fopen(argv[i], "rb");
        if (!file)
            return 2;
        LLVMFuzzerTestOneInput(data, fread(data, 1, sizeof data, file));
        fclose(file);
    }
    return 0;
}
#endif
