/* A disk that hangs, for a program that this is loaded into (LD_PRELOAD): no sync comes to its end while the file
 * SYNC_HANGS_WHILE is there. */
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

static void hang(void) {
    const char *file = getenv("SYNC_HANGS_WHILE");
    while (file && access(file, F_OK) == 0) usleep(5000);
}

int fdatasync(int descriptor) {
    hang();
    return (int) syscall(SYS_fdatasync, descriptor);
}

int fsync(int descriptor) {
    hang();
    return (int) syscall(SYS_fsync, descriptor);
}
