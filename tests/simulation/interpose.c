/* Stands between a program and libc's calls that change files: writes each down in order, and makes the one it is told to fail.

   Loaded with LD_PRELOAD. Only paths below INTERPOSE_ROOT are looked at; everything else goes straight through. Told by:

   INTERPOSE_ROOT     the directory, a real path without a slash at its end
   INTERPOSE_JOURNAL  a file outside of it, to which records are appended (see `record`)
   INTERPOSE_DATA     "1": with the bytes of writes
   INTERPOSE_LAZY     "1": a sync is written down and not made (a process that dies takes no page cache with it)
   INTERPOSE_PLAN     kill:before|half|after:N   end the process at its N-th call (a half is for writes: so many of their bytes)
                      stop:before|after:N        stop it there (SIGSTOP); whoever wakes it lets it go on
                      eio:N                      its N-th sync fails, once
                      dies:N                     the same, and the process ends at its next call
                      full:N                     from the N-th call on nothing grows: half of the next write, then ENOSPC
                      readonly:N                 from the N-th call on nothing changes: EROFS
                      ...:N@OP:PATH              of each: the N-th only counts calls on that path (below the root); OP is `any`,
                                                 `write`, `sync`, or `first`, a write that follows no write on the same path

   SQLite's shared memory (`-shm`) is changed without calls and made anew after a crash: its calls are neither counted nor
   written down, but they fail like the others. An unlink of what is not there counts as none.

   One lock is held around each call, so that the order of the records is the order of the calls; a path is asked of the
   kernel each time, so that there is no table of descriptors to keep. A process that is killed holds the lock: no other
   thread of it changes a file any more. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum { CREATE = 1, WRITE, TRUNCATE, SYNC, SYNC_DIRECTORY, RENAME, UNLINK, MKDIR, RMDIR, LINK, MARK, KILLED, STOPPED };
enum { NONE, KILL, STOP, EIO_ONCE, EIO_DIES, FULL, READONLY };
enum { BEFORE, HALF, AFTER };

struct record {
    uint32_t magic, op;
    uint64_t number; /* of the call in its process, from 1; of a mark the last call before it */
    uint64_t inode;
    int64_t offset, length; /* of a write: how much was written; of a truncation: the size; of an end: where, in which op */
    int32_t error;          /* errno, 0 for success */
    int32_t process;
    uint32_t path, other, data; /* so many bytes of each follow */
    uint32_t padding;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char root[PATH_MAX];
static size_t root_length;
static int journal = -1, with_data, lazy;
static int plan, plan_where, spent, failed; /* spent: the disk has taken its last half; failed: the sync has */
static uint64_t plan_number, calls, counted; /* counted: of those that the plan counts */
static char plan_op[16] = "any", plan_path[PATH_MAX], last_written[PATH_MAX];
static int struck, current; /* this call is the one; what it is */

#define REAL(name) ((__typeof__(&name))real(#name))

static void *real(const char *name) {
    void *found = dlsym(RTLD_NEXT, name);
    if (!found) abort();
    return found;
}

__attribute__((constructor)) static void begin(void) {
    const char *given = getenv("INTERPOSE_ROOT"), *path = getenv("INTERPOSE_JOURNAL"), *text = getenv("INTERPOSE_PLAN");
    if (!given || !path) return;
    snprintf(root, sizeof root, "%s", given);
    root_length = strlen(root);
    int opened = syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    journal = opened < 0 ? -1 : fcntl(opened, F_DUPFD_CLOEXEC, 700);
    if (journal < 0) abort();
    syscall(SYS_close, opened);
    with_data = getenv("INTERPOSE_DATA") != NULL;
    lazy = getenv("INTERPOSE_LAZY") != NULL;
    if (!text || !*text) return;
    char where[16] = "";
    unsigned long long number = 0;
    const char *filter = strchr(text, '@');
    if (filter && sscanf(filter, "@%15[a-z]:%4000s", plan_op, plan_path) != 2) abort();
    if (sscanf(text, "kill:%15[a-z]:%llu", where, &number) == 2) plan = KILL;
    else if (sscanf(text, "stop:%15[a-z]:%llu", where, &number) == 2) plan = STOP;
    else if (sscanf(text, "eio:%llu", &number) == 1) plan = EIO_ONCE;
    else if (sscanf(text, "dies:%llu", &number) == 1) plan = EIO_DIES;
    else if (sscanf(text, "full:%llu", &number) == 1) plan = FULL;
    else if (sscanf(text, "readonly:%llu", &number) == 1) plan = READONLY;
    else abort();
    plan_where = !strcmp(where, "half") ? HALF : !strcmp(where, "after") ? AFTER : BEFORE;
    plan_number = number;
}

/* --- which paths, and what is said of them ------------------------------------------------------------------------ */

static int inside(const char *path) {
    return root_length && !strncmp(path, root, root_length) && (path[root_length] == '/' || !path[root_length]);
}

static int path_of(int descriptor, char *path) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t length = syscall(SYS_readlinkat, AT_FDCWD, link, path, PATH_MAX - 1);
    if (length <= 0 || *path != '/') return 0;
    path[length] = 0;
    return inside(path);
}

/* An absolute path whose directory is resolved; its last part is what it is. */
static int resolved(int directory, const char *given, char *path) {
    char whole[2 * PATH_MAX], parent[PATH_MAX];
    if (!root_length || !given) return 0;
    if (*given == '/') snprintf(whole, sizeof whole, "%s", given);
    else {
        char base[PATH_MAX];
        if (directory == AT_FDCWD) {
            if (syscall(SYS_getcwd, base, sizeof base) < 0) return 0;
        } else {
            char link[64];
            snprintf(link, sizeof link, "/proc/self/fd/%d", directory);
            ssize_t length = syscall(SYS_readlinkat, AT_FDCWD, link, base, sizeof base - 1);
            if (length <= 0) return 0;
            base[length] = 0;
        }
        snprintf(whole, sizeof whole, "%s/%s", base, given);
    }
    size_t length = strlen(whole);
    while (length > 1 && whole[length - 1] == '/') whole[--length] = 0;
    char *slash = strrchr(whole, '/');
    if (slash == whole) snprintf(path, PATH_MAX, "%.*s", PATH_MAX - 1, whole);
    else {
        *slash = 0;
        if (!realpath(whole, parent)) return 0;
        snprintf(path, PATH_MAX, "%.*s/%.*s", 2000, parent, 2000, slash + 1);
    }
    return inside(path);
}

static void put(struct iovec *parts, int count) {
    size_t whole = 0;
    for (int n = 0; n < count; n++) whole += parts[n].iov_len;
    if (syscall(SYS_writev, journal, parts, count) != (ssize_t)whole) abort();
}

static void note(int op, uint64_t inode, int64_t offset, int64_t length, int error, const char *path, const char *other,
                 const void *data, size_t size) {
    struct record made = {0x4c4e524a, op, calls, inode, offset, length, error, getpid(), path ? strlen(path) : 0,
                          other ? strlen(other) : 0, with_data && data ? size : 0, 0};
    struct iovec parts[4] = {{&made, sizeof made}, {(void *)path, made.path}, {(void *)other, made.other},
                             {(void *)data, made.data}};
    put(parts, 4);
}

static uint64_t inode_at(const char *path) {
    struct stat found;
    return lstat(path, &found) ? 0 : found.st_ino;
}

void interpose_mark(const char *text) {
    pthread_mutex_lock(&lock);
    if (journal >= 0) note(MARK, 0, 0, 0, 0, text, NULL, NULL, 0);
    pthread_mutex_unlock(&lock);
}

/* --- what is done about a call ------------------------------------------------------------------------------------- */

static int is_shared_memory(const char *path) {
    size_t length = strlen(path);
    return length > 4 && !strcmp(path + length - 4, "-shm");
}

/* Count a call as the plan does. */
static void count(int op, const char *path) {
    int first = op == WRITE && strcmp(path, last_written), sync = op == SYNC || op == SYNC_DIRECTORY;
    snprintf(last_written, sizeof last_written, "%s", op == WRITE ? path : "");
    calls++;
    current = op;
    int counts = !strcmp(plan_op, "any") ? (plan != EIO_ONCE && plan != EIO_DIES) || sync
               : !strcmp(plan_op, "first") ? first : !strcmp(plan_op, "write") ? op == WRITE : sync;
    if (*plan_path && strcmp(path + root_length + (path[root_length] == '/'), plan_path)) counts = 0;
    counted += counts;
    struck = counts && counted == plan_number;
}

/* Whether the plan's call is this one or lies behind. */
static int is_on(void) { return counted >= plan_number; }

static int is_at(int where) { return struck && plan_where == where; }

static void end_or_stop(int where, const char *path) {
    if ((plan == KILL && is_at(where)) || (plan == EIO_DIES && failed && where == BEFORE)) {
        note(KILLED, 0, where, current, 0, path, NULL, NULL, 0);
        kill(getpid(), SIGKILL);
        for (;;) pause();
    }
    if (plan == STOP && is_at(where)) {
        note(STOPPED, 0, where, current, 0, path, NULL, NULL, 0);
        kill(getpid(), SIGSTOP);
    }
}

/* Count a call; gives the error that it must fail with, or 0. */
static int refused(int op, const char *path, int grows) {
    if (is_shared_memory(path)) {
        if (plan == READONLY && is_on()) return EROFS;
        return plan == FULL && spent && grows ? ENOSPC : 0;
    }
    count(op, path);
    end_or_stop(BEFORE, path);
    if ((plan == EIO_ONCE || plan == EIO_DIES) && struck) {
        failed = 1;
        return EIO;
    }
    if (plan == READONLY && is_on()) return EROFS;
    if (plan == FULL && is_on() && grows && (op != WRITE || spent)) return ENOSPC;
    return 0;
}

static void noted(int op, uint64_t inode, int64_t offset, int64_t length, int error, const char *path, const char *other,
                  const void *data, size_t size) {
    if (is_shared_memory(path)) return;
    note(op, inode, offset, length, error, path, other, data, size);
    end_or_stop(HALF, path);
    end_or_stop(AFTER, path);
}

static ssize_t written(int descriptor, const struct iovec *given, int count, int64_t offset, int at_offset) {
    char path[PATH_MAX];
    struct stat found;
    size_t whole = 0;
    for (int n = 0; n < count; n++) whole += given[n].iov_len;
    if (!path_of(descriptor, path) || syscall(SYS_fstat, descriptor, &found) || !S_ISREG(found.st_mode)) {
        if (at_offset) return syscall(SYS_pwritev, descriptor, given, count, (long)offset, 0L);
        return syscall(SYS_writev, descriptor, given, count);
    }
    pthread_mutex_lock(&lock);
    syscall(SYS_fstat, descriptor, &found);
    if (!at_offset) {
        int flags = fcntl(descriptor, F_GETFL);
        offset = flags & O_APPEND ? found.st_size : lseek(descriptor, 0, SEEK_CUR);
    }
    int grows = offset + (int64_t)whole > found.st_size;
    int error = refused(WRITE, path, grows);
    ssize_t made = -1;
    if (!error) {
        size_t some = whole;
        int ours = !is_shared_memory(path);
        if (ours && plan == KILL && is_at(HALF)) some = whole / 2;
        if (ours && plan == FULL && is_on() && grows) some = whole / 2, spent = 1;
        if (some == 0 && whole) {
            if (plan == FULL) error = ENOSPC;
            else made = 0;
        } else if (some == whole) {
            made = at_offset ? syscall(SYS_pwritev, descriptor, given, count, (long)offset, 0L)
                             : syscall(SYS_writev, descriptor, given, count);
        } else {
            struct iovec first = {given[0].iov_base, given[0].iov_len < some ? given[0].iov_len : some};
            made = at_offset ? syscall(SYS_pwritev, descriptor, &first, 1, (long)offset, 0L)
                             : syscall(SYS_writev, descriptor, &first, 1);
        }
        if (made < 0 && !error) error = errno;
    }
    char *joined = NULL;
    const void *data = count ? given[0].iov_base : NULL;
    if (made > 0 && with_data && (size_t)made > given[0].iov_len) {
        size_t place = 0;
        data = joined = malloc(whole);
        if (!joined) abort();
        for (int n = 0; n < count; n++) memcpy(joined + place, given[n].iov_base, given[n].iov_len), place += given[n].iov_len;
    }
    noted(WRITE, found.st_ino, offset, made < 0 ? 0 : made, error, path, NULL, data, made < 0 ? 0 : made);
    free(joined);
    pthread_mutex_unlock(&lock);
    if (error) {
        errno = error;
        return -1;
    }
    return made;
}

static int synced(int descriptor, const char *name) {
    char path[PATH_MAX];
    struct stat found;
    if (!path_of(descriptor, path) || syscall(SYS_fstat, descriptor, &found))
        return ((int (*)(int))real(name))(descriptor);
    pthread_mutex_lock(&lock);
    int op = S_ISDIR(found.st_mode) ? SYNC_DIRECTORY : SYNC;
    int error = refused(op, path, 0);
    if (!error && !lazy && ((int (*)(int))real(name))(descriptor)) error = errno;
    noted(op, found.st_ino, 0, 0, error, path, NULL, NULL, 0);
    pthread_mutex_unlock(&lock);
    if (error) errno = error;
    return error ? -1 : 0;
}

static int truncated(int descriptor, int64_t size) {
    char path[PATH_MAX];
    struct stat found;
    if (!path_of(descriptor, path) || syscall(SYS_fstat, descriptor, &found)) return syscall(SYS_ftruncate, descriptor, size);
    pthread_mutex_lock(&lock);
    int error = refused(TRUNCATE, path, 0);
    if (!error && syscall(SYS_ftruncate, descriptor, size)) error = errno;
    noted(TRUNCATE, found.st_ino, 0, size, error, path, NULL, NULL, 0);
    pthread_mutex_unlock(&lock);
    if (error) errno = error;
    return error ? -1 : 0;
}

static int opened(int directory, const char *given, int flags, mode_t mode) {
    char path[PATH_MAX];
    struct stat found;
    int changes = flags & (O_CREAT | O_TRUNC | O_WRONLY | O_RDWR);
    if (!changes || !resolved(directory, given, path)) return syscall(SYS_openat, directory, given, flags, mode);
    pthread_mutex_lock(&lock);
    int there = !lstat(path, &found);
    int creates = !there && (flags & O_CREAT), empties = there && (flags & O_TRUNC) && S_ISREG(found.st_mode);
    int error = 0, made = -1;
    if (creates || empties) error = refused(creates ? CREATE : TRUNCATE, path, creates);
    else if (plan == READONLY && is_on() && (flags & (O_WRONLY | O_RDWR))) error = EROFS;
    if (!error && (made = syscall(SYS_openat, directory, given, flags, mode)) < 0) error = errno;
    if (creates || empties) {
        noted(creates ? CREATE : TRUNCATE, error ? 0 : inode_at(path), 0, 0, error, path, NULL, NULL, 0);
    }
    pthread_mutex_unlock(&lock);
    if (error) errno = error;
    return error ? -1 : made;
}

/* A call on one or two names: `op` on `path`, to `other`. `change` makes it. */
struct named {
    long call;
    int from, to, flags;
    const char *path, *other;
    mode_t mode;
};

static long change(const struct named *it) {
    switch (it->call) {
    case SYS_renameat2: return syscall(SYS_renameat2, it->from, it->path, it->to, it->other, it->flags);
    case SYS_linkat: return syscall(SYS_linkat, it->from, it->path, it->to, it->other, it->flags);
    case SYS_unlinkat: return syscall(SYS_unlinkat, it->from, it->path, it->flags);
    default: return syscall(SYS_mkdirat, it->from, it->path, it->mode);
    }
}

static int named(int op, struct named it) {
    char path[PATH_MAX], other[PATH_MAX] = "";
    int ours = resolved(it.from, it.path, path);
    if (it.other) ours = resolved(it.to, it.other, other) || ours;
    if (!ours) return change(&it);
    pthread_mutex_lock(&lock);
    uint64_t inode = inode_at(path);
    if (!inode && (op == UNLINK || op == RMDIR)) {
        pthread_mutex_unlock(&lock);
        if (plan == READONLY && is_on()) {
            errno = EROFS;
            return -1;
        }
        return change(&it);
    }
    int error = refused(op, path, op == MKDIR);
    if (!error && change(&it)) error = errno;
    if (!error && op == MKDIR) inode = inode_at(path);
    noted(op, inode, 0, 0, error, path, other, NULL, 0);
    pthread_mutex_unlock(&lock);
    if (error) errno = error;
    return error ? -1 : 0;
}

/* --- libc's names -------------------------------------------------------------------------------------------------- */

static mode_t mode_in(int flags, va_list rest) { return flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0; }

#define OPEN(name) \
    int name(const char *path, int flags, ...) { \
        va_list rest; va_start(rest, flags); mode_t mode = mode_in(flags, rest); va_end(rest); \
        return opened(AT_FDCWD, path, flags, mode); }
#define OPENAT(name) \
    int name(int directory, const char *path, int flags, ...) { \
        va_list rest; va_start(rest, flags); mode_t mode = mode_in(flags, rest); va_end(rest); \
        return opened(directory, path, flags, mode); }
OPEN(open)
OPEN(open64)
OPENAT(openat)
OPENAT(openat64)
int __open_2(const char *path, int flags) { return opened(AT_FDCWD, path, flags, 0); }
int __open64_2(const char *path, int flags) { return opened(AT_FDCWD, path, flags, 0); }
int creat(const char *path, mode_t mode) { return opened(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode); }
int creat64(const char *path, mode_t mode) { return opened(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode); }

ssize_t write(int descriptor, const void *data, size_t size) {
    struct iovec one = {(void *)data, size};
    return written(descriptor, &one, 1, 0, 0);
}
ssize_t writev(int descriptor, const struct iovec *parts, int count) { return written(descriptor, parts, count, 0, 0); }
#define PWRITE(name) \
    ssize_t name(int descriptor, const void *data, size_t size, off64_t offset) { \
        struct iovec one = {(void *)data, size}; \
        return written(descriptor, &one, 1, offset, 1); }
#define PWRITEV(name) \
    ssize_t name(int descriptor, const struct iovec *parts, int count, off64_t offset) { \
        return written(descriptor, parts, count, offset, 1); }
PWRITE(pwrite)
PWRITE(pwrite64)
PWRITEV(pwritev)
PWRITEV(pwritev64)

int ftruncate(int descriptor, off_t size) { return truncated(descriptor, size); }
int ftruncate64(int descriptor, off64_t size) { return truncated(descriptor, size); }

static int truncated_at(const char *path, off64_t size) {
    int descriptor = syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CLOEXEC, 0);
    if (descriptor < 0) return -1;
    int made = truncated(descriptor, size), error = errno;
    syscall(SYS_close, descriptor);
    errno = error;
    return made;
}
int truncate(const char *path, off_t size) { return truncated_at(path, size); }
int truncate64(const char *path, off64_t size) { return truncated_at(path, size); }

int fsync(int descriptor) { return synced(descriptor, "fsync"); }
int fdatasync(int descriptor) { return synced(descriptor, "fdatasync"); }

int rename(const char *path, const char *other) {
    return named(RENAME, (struct named){SYS_renameat2, AT_FDCWD, AT_FDCWD, 0, path, other, 0});
}
int renameat(int from, const char *path, int to, const char *other) {
    return named(RENAME, (struct named){SYS_renameat2, from, to, 0, path, other, 0});
}
int renameat2(int from, const char *path, int to, const char *other, unsigned flags) {
    return named(RENAME, (struct named){SYS_renameat2, from, to, (int)flags, path, other, 0});
}
int link(const char *path, const char *other) {
    return named(LINK, (struct named){SYS_linkat, AT_FDCWD, AT_FDCWD, 0, path, other, 0});
}
int linkat(int from, const char *path, int to, const char *other, int flags) {
    return named(LINK, (struct named){SYS_linkat, from, to, flags, path, other, 0});
}
int unlink(const char *path) { return named(UNLINK, (struct named){SYS_unlinkat, AT_FDCWD, 0, 0, path, NULL, 0}); }
int unlinkat(int from, const char *path, int flags) {
    return named(flags & AT_REMOVEDIR ? RMDIR : UNLINK, (struct named){SYS_unlinkat, from, 0, flags, path, NULL, 0});
}
int rmdir(const char *path) { return named(RMDIR, (struct named){SYS_unlinkat, AT_FDCWD, 0, AT_REMOVEDIR, path, NULL, 0}); }
int mkdir(const char *path, mode_t mode) {
    return named(MKDIR, (struct named){SYS_mkdirat, AT_FDCWD, 0, 0, path, NULL, mode});
}
int mkdirat(int from, const char *path, mode_t mode) {
    return named(MKDIR, (struct named){SYS_mkdirat, from, 0, 0, path, NULL, mode});
}
