/* Preloaded into a process: counts the system calls that touch one folder, and lets one of them, or all from one on,
   fail. Calls are those that the C library makes for its callers: Python, PyTorch, safetensors, Arrow. */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

enum { COUNT, KILL, ONCE, SHORT, FULL, GONE }; /* as in system_calls.py */
enum { PROCEED, FAIL, HALF };

static char folder[4096];
static size_t length;
static int armed, mode, number, log_fd = -1;
static long at, count;
static char ours[1 << 16]; /* descriptors of files and folders inside */

void flantune_arm(const char *path, int how, int error, long first, int log) {
  armed = 0;
  snprintf(folder, sizeof folder, "%s", path);
  length = strlen(folder);
  mode = how, number = error, at = first, log_fd = log, count = 0;
  memset(ours, 0, sizeof ours);
  armed = *path != 0;
}

static int inside(int fd, const char *path) {
  if (!armed) return 0;
  if (path && *path == '/') return !strncmp(path, folder, length) && (path[length] == '/' || !path[length]);
  return fd >= 0 && fd < (int)sizeof ours && ours[fd];
}

static void keep(int fd, int is_ours) {
  if (fd >= 0 && fd < (int)sizeof ours) ours[fd] = (char)is_ours;
}

/* What becomes of a call: it is made, or fails, or (a write) is made by half. `grows`: whether it needs space. */
static int fate(const char *name, int touched, int grows, int writes) {
  if (!touched) return PROCEED;
  int before = errno;
  long mine = __atomic_fetch_add(&count, 1, __ATOMIC_SEQ_CST);
  if (log_fd >= 0) {
    char line[64];
    int size = snprintf(line, sizeof line, "%s\n", name);
    syscall(SYS_write, log_fd, line, size);
  }
  errno = before;
  if (mode == COUNT || mine < at) return PROCEED;
  if (mode == FULL) {
    if (!grows) return PROCEED;
    if (writes && mine == at) return HALF;
    errno = number;
    return FAIL;
  }
  if (mode == GONE) {
    errno = number;
    return FAIL;
  }
  if (mine > at) return PROCEED;
  if (mode == ONCE) {
    errno = number;
    return FAIL;
  }
  if (writes) return HALF;
  if (mode == KILL) syscall(SYS_kill, getpid(), SIGKILL);
  return PROCEED;
}

static void half_done(void) {
  if (mode == KILL) syscall(SYS_kill, getpid(), SIGKILL);
}

#define REAL(name) \
  static __typeof__(&name) real; \
  if (!real) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)
#define MODE_OF(flags) \
  int given = 0; \
  if ((flags) & (O_CREAT | O_TMPFILE)) { \
    va_list rest; \
    va_start(rest, flags); \
    given = va_arg(rest, int); \
    va_end(rest); \
  }

#define OPEN(name) \
  int name(const char *path, int flags, ...) { \
    MODE_OF(flags) \
    REAL(name); \
    int touched = inside(-1, path); \
    if (fate("open", touched, flags & O_CREAT, 0) == FAIL) return -1; \
    int fd = real(path, flags, given); \
    if (armed) keep(fd, touched); \
    return fd; \
  }
OPEN(open)
OPEN(open64)

#define OPENAT(name) \
  int name(int dir, const char *path, int flags, ...) { \
    MODE_OF(flags) \
    REAL(name); \
    int touched = inside(dir, path); \
    if (fate("openat", touched, flags & O_CREAT, 0) == FAIL) return -1; \
    int fd = real(dir, path, flags, given); \
    if (armed) keep(fd, touched); \
    return fd; \
  }
OPENAT(openat)
OPENAT(openat64)

#define FOPEN(name) \
  FILE *name(const char *path, const char *how) { \
    REAL(name); \
    int touched = inside(-1, path); \
    if (fate("open", touched, *how != 'r', 0) == FAIL) return NULL; \
    FILE *file = real(path, how); \
    if (armed && file) keep(fileno(file), touched); \
    return file; \
  }
FOPEN(fopen)
FOPEN(fopen64)

int close(int fd) {
  REAL(close);
  int failed = fate("close", inside(fd, NULL), 0, 0) == FAIL, error = errno;
  if (armed) keep(fd, 0);
  int result = real(fd);
  if (!failed) return result;
  errno = error; /* the descriptor is free all the same, as Linux has it */
  return -1;
}

static void same_owner(int from, int to) {
  if (armed && to >= 0) keep(to, inside(from, NULL));
}

#define FCNTL(name) \
  int name(int fd, int command, ...) { \
    REAL(name); \
    va_list rest; \
    va_start(rest, command); \
    void *argument = va_arg(rest, void *); \
    va_end(rest); \
    int result = real(fd, command, argument); \
    if (command == F_DUPFD || command == F_DUPFD_CLOEXEC) same_owner(fd, result); \
    return result; \
  }
FCNTL(fcntl)
FCNTL(fcntl64)

int dup(int fd) {
  REAL(dup);
  int result = real(fd);
  same_owner(fd, result);
  return result;
}

/* A call that gives -1 for an error. */
#define CALL(type, name, told, touched, grows, parameters, arguments) \
  type name parameters { \
    REAL(name); \
    if (fate(told, touched, grows, 0) == FAIL) return -1; \
    return real arguments; \
  }
#define EITHER(a, b) (inside(AT_FDCWD, a) | inside(AT_FDCWD, b))

CALL(int, fsync, "fsync", inside(fd, NULL), 1, (int fd), (fd))
CALL(int, fdatasync, "fdatasync", inside(fd, NULL), 1, (int fd), (fd))
CALL(int, flock, "flock", inside(fd, NULL), 0, (int fd, int how), (fd, how))
CALL(int, ftruncate, "ftruncate", inside(fd, NULL), 1, (int fd, off_t size), (fd, size))
CALL(int, ftruncate64, "ftruncate", inside(fd, NULL), 1, (int fd, off64_t size), (fd, size))
CALL(off_t, lseek, "lseek", inside(fd, NULL), 0, (int fd, off_t to, int from), (fd, to, from))
CALL(off64_t, lseek64, "lseek", inside(fd, NULL), 0, (int fd, off64_t to, int from), (fd, to, from))
CALL(int, fchmod, "chmod", inside(fd, NULL), 0, (int fd, mode_t to), (fd, to))
CALL(int, chmod, "chmod", inside(-1, path), 0, (const char *path, mode_t to), (path, to))
CALL(int, mkdir, "mkdir", inside(-1, path), 1, (const char *path, mode_t as), (path, as))
CALL(int, mkdirat, "mkdir", inside(dir, path), 1, (int dir, const char *path, mode_t as), (dir, path, as))
CALL(int, rmdir, "rmdir", inside(-1, path), 0, (const char *path), (path))
CALL(int, unlink, "unlink", inside(-1, path), 0, (const char *path), (path))
CALL(int, unlinkat, "unlinkat", inside(dir, path), 0, (int dir, const char *path, int how), (dir, path, how))
CALL(int, rename, "rename", EITHER(from, to), 1, (const char *from, const char *to), (from, to))
CALL(int, renameat, "rename", inside(a, from) | inside(b, to), 1, (int a, const char *from, int b, const char *to),
     (a, from, b, to))
CALL(int, link, "link", EITHER(from, to), 1, (const char *from, const char *to), (from, to))
CALL(int, linkat, "link", inside(a, from) | inside(b, to), 1,
     (int a, const char *from, int b, const char *to, int how), (a, from, b, to, how))
CALL(int, symlink, "symlink", inside(-1, to), 1, (const char *from, const char *to), (from, to))
CALL(int, utimensat, "utimensat", inside(dir, path), 0,
     (int dir, const char *path, const struct timespec times[2], int how), (dir, path, times, how))
CALL(ssize_t, read, "read", inside(fd, NULL), 0, (int fd, void *to, size_t size), (fd, to, size))
CALL(ssize_t, pread64, "read", inside(fd, NULL), 0, (int fd, void *to, size_t size, off64_t from),
     (fd, to, size, from))
CALL(ssize_t, readv, "read", inside(fd, NULL), 0, (int fd, const struct iovec *to, int parts), (fd, to, parts))
CALL(ssize_t, copy_file_range, "copy_file_range", inside(a, NULL) | inside(b, NULL), 1,
     (int a, off64_t *from, int b, off64_t *to, size_t size, unsigned int how), (a, from, b, to, size, how))
CALL(int, stat, "stat", inside(-1, path), 0, (const char *path, struct stat *to), (path, to))
CALL(int, stat64, "stat", inside(-1, path), 0, (const char *path, struct stat64 *to), (path, to))
CALL(int, lstat, "stat", inside(-1, path), 0, (const char *path, struct stat *to), (path, to))
CALL(int, lstat64, "stat", inside(-1, path), 0, (const char *path, struct stat64 *to), (path, to))
CALL(int, fstat, "fstat", inside(fd, NULL), 0, (int fd, struct stat *to), (fd, to))
CALL(int, fstat64, "fstat", inside(fd, NULL), 0, (int fd, struct stat64 *to), (fd, to))
CALL(int, fstatat, "stat", inside(dir, path), 0, (int dir, const char *path, struct stat *to, int how),
     (dir, path, to, how))
CALL(int, fstatat64, "stat", inside(dir, path), 0, (int dir, const char *path, struct stat64 *to, int how),
     (dir, path, to, how))

/* A call that writes, of which half may be done. */
#define WRITE(name, parameters, whole, half) \
  ssize_t name parameters { \
    REAL(name); \
    switch (fate("write", inside(fd, NULL), 1, 1)) { \
    case FAIL: \
      return -1; \
    case HALF: { \
      ssize_t done = real half; \
      half_done(); \
      return done; \
    } \
    } \
    return real whole; \
  }
#define HALF_OF(size) ((size) / 2 + ((size) == 1))
WRITE(write, (int fd, const void *from, size_t size), (fd, from, size), (fd, from, HALF_OF(size)))
WRITE(pwrite64, (int fd, const void *from, size_t size, off64_t to), (fd, from, size, to),
      (fd, from, HALF_OF(size), to))
WRITE(writev, (int fd, const struct iovec *from, int parts), (fd, from, parts), (fd, from, HALF_OF(parts)))

DIR *opendir(const char *path) {
  REAL(opendir);
  int touched = inside(-1, path);
  if (fate("opendir", touched, 0, 0) == FAIL) return NULL;
  DIR *stream = real(path);
  if (armed && stream) keep(dirfd(stream), touched);
  return stream;
}

DIR *fdopendir(int fd) {
  REAL(fdopendir);
  return fate("opendir", inside(fd, NULL), 0, 0) == FAIL ? NULL : real(fd);
}

struct dirent64 *readdir64(DIR *stream) {
  REAL(readdir64);
  return fate("getdents", inside(dirfd(stream), NULL), 0, 0) == FAIL ? NULL : real(stream);
}

int closedir(DIR *stream) {
  REAL(closedir);
  int fd = dirfd(stream), failed = fate("close", inside(fd, NULL), 0, 0) == FAIL, error = errno;
  if (armed) keep(fd, 0);
  int result = real(stream);
  if (!failed) return result;
  errno = error;
  return -1;
}

#define MMAP(name, offset) \
  void *name(void *where, size_t size, int may, int how, int fd, offset from) { \
    REAL(name); \
    return fate("mmap", !(how & MAP_ANONYMOUS) && inside(fd, NULL), 0, 0) == FAIL ? MAP_FAILED \
                                                                              : real(where, size, may, how, fd, from); \
  }
MMAP(mmap, off_t)
MMAP(mmap64, off64_t)
