/*
 * A name service that fails as it is told: libnss_flaky.so.2, for nsswitch.conf.
 *
 * It knows the user dora (6001) and two groups, and who is in them is in /etc/flaky.members, a name a line: of corpadmins
 * (5000) only initgroups tells, as with an LDAP server that lists no members; of corpstaff (5001) only the list of its
 * members. It also knows the users of /etc/flaky.passwd, whatever the case of their names, and where there is
 * /etc/flaky.bare without what follows the @, as sssd does with default_domain_suffix. Where there is /etc/flaky, it has one line: which functions fail (passwd, group, initgroups), the status and
 * the errno that they return, and how: always, every other time, at random, or by hanging.
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <nss.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define MEMBERS 16

static int fails(const char *function, enum nss_status *status, int *number)
{
    char which[32], how[32];
    int code, error;
    FILE *file = fopen("/etc/flaky", "r");
    if (!file)
        return 0;
    int fields = fscanf(file, "%31s %d %d %31s", which, &code, &error, how);
    fclose(file);
    if (fields != 4 || strcmp(which, function))
        return 0;
    if (!strcmp(how, "hanging"))
        for (;;)
            pause();
    if (!strcmp(how, "other")) {
        struct stat count;
        int counter = open("/run/flaky.count", O_WRONLY | O_APPEND | O_CREAT, 0600);
        if (counter < 0 || write(counter, "", 1) != 1 || fstat(counter, &count))
            abort();
        close(counter);
        if (count.st_size % 2)
            return 0;
    }
    if (!strcmp(how, "random")) {
        struct timespec now;
        clock_gettime(CLOCK_MONOTONIC, &now);
        if (now.tv_nsec / 64 % 2)
            return 0;
    }
    *status = code;
    *number = error;
    return 1;
}

static int member(const char *user)
{
    char name[64];
    int found = 0;
    FILE *file = fopen("/etc/flaky.members", "r");
    while (file && !found && fscanf(file, "%63s", name) == 1)
        found = !strcmp(name, user);
    if (file)
        fclose(file);
    return found;
}

static enum nss_status listed(const char *name, uid_t uid, struct passwd *entry, char *buffer, size_t size)
{
    FILE *file = fopen("/etc/flaky.passwd", "r");
    int bare = !access("/etc/flaky.bare", F_OK), found = 0;
    struct passwd *next;
    while (file && !found && !fgetpwent_r(file, entry, buffer, size, &next)) {
        size_t length = strcspn(next->pw_name, "@");
        found = !name ? next->pw_uid == uid
                      : !strcasecmp(name, next->pw_name)
                            || (bare && strlen(name) == length && !strncasecmp(name, next->pw_name, length));
    }
    if (file)
        fclose(file);
    return found ? NSS_STATUS_SUCCESS : NSS_STATUS_NOTFOUND;
}

static enum nss_status dora(struct passwd *entry)
{
    *entry = (struct passwd){"dora", "x", 6001, 100, "", "/", "/bin/sh"};
    return NSS_STATUS_SUCCESS;
}

enum nss_status _nss_flaky_getpwnam_r(const char *name, struct passwd *entry, char *buffer, size_t size, int *number)
{
    enum nss_status status;
    if (fails("passwd", &status, number))
        return status;
    return strcmp(name, "dora") ? listed(name, 0, entry, buffer, size) : dora(entry);
}

enum nss_status _nss_flaky_getpwuid_r(uid_t uid, struct passwd *entry, char *buffer, size_t size, int *number)
{
    enum nss_status status;
    if (fails("passwd", &status, number))
        return status;
    return uid != 6001 ? listed(NULL, uid, entry, buffer, size) : dora(entry);
}

static enum nss_status group(int staff, struct group *entry, char *buffer, size_t size, int *number)
{
    char **members = (char **)buffer, *text = buffer + (MEMBERS + 1) * sizeof *members;
    int count = 0;
    FILE *file = staff ? fopen("/etc/flaky.members", "r") : NULL;
    if (size < (MEMBERS + 1) * (sizeof *members + 64)) {
        if (file)
            fclose(file);
        *number = ERANGE;
        return NSS_STATUS_TRYAGAIN;
    }
    while (file && count < MEMBERS && fscanf(file, "%63s", text) == 1) {
        members[count++] = text;
        text += strlen(text) + 1;
    }
    if (file)
        fclose(file);
    members[count] = NULL;
    *entry = (struct group){staff ? "corpstaff" : "corpadmins", "x", staff ? 5001 : 5000, members};
    return NSS_STATUS_SUCCESS;
}

enum nss_status _nss_flaky_getgrnam_r(const char *name, struct group *entry, char *buffer, size_t size, int *number)
{
    enum nss_status status;
    int staff = !strcmp(name, "corpstaff");
    if (fails("group", &status, number))
        return status;
    return staff || !strcmp(name, "corpadmins") ? group(staff, entry, buffer, size, number) : NSS_STATUS_NOTFOUND;
}

enum nss_status _nss_flaky_getgrgid_r(gid_t gid, struct group *entry, char *buffer, size_t size, int *number)
{
    enum nss_status status;
    if (fails("group", &status, number))
        return status;
    return gid == 5000 || gid == 5001 ? group(gid == 5001, entry, buffer, size, number) : NSS_STATUS_NOTFOUND;
}

enum nss_status _nss_flaky_initgroups_dyn(const char *user, gid_t primary, long *used, long *size, gid_t **numbers,
                                          long limit, int *number)
{
    enum nss_status status;
    if (fails("initgroups", &status, number))
        return status;
    if (!member(user))
        return NSS_STATUS_NOTFOUND;
    if (*used == *size) {
        gid_t *more = realloc(*numbers, 2 * *size * sizeof **numbers);
        if (!more) {
            *number = ENOMEM;
            return NSS_STATUS_TRYAGAIN;
        }
        *numbers = more;
        *size *= 2;
    }
    (*numbers)[(*used)++] = 5000;
    return NSS_STATUS_SUCCESS;
}
