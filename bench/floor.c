// The minimum for a command through a daemon: a client connects to a Unix socket, the daemon spawns `true`, waits for
// it and answers with its exit code. There is no protocol, network, policy or anything else.
//
//   floor serve <socket>     floor ask <socket>
#define _GNU_SOURCE
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

static int serve(int listener) {
    for (;;) {
        int client = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        char byte;
        if (client < 0) return 1;
        if (read(client, &byte, 1) == 1) {
            char *argv[] = {"true", NULL};
            pid_t child;
            int status = 255 << 8;
            if (posix_spawnp(&child, "true", NULL, NULL, argv, environ) == 0) waitpid(child, &status, 0);
            byte = WIFEXITED(status) ? WEXITSTATUS(status) : 255;
            if (write(client, &byte, 1) != 1) return 1;
        }
        close(client);
    }
}

int main(int argc, char **argv) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    unsigned char byte = 0;
    int stream = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (argc != 3 || strlen(argv[2]) >= sizeof address.sun_path || stream < 0) return 2;
    strcpy(address.sun_path, argv[2]);
    if (strcmp(argv[1], "serve") == 0) {
        signal(SIGPIPE, SIG_IGN);
        if (bind(stream, (void *)&address, sizeof address) || listen(stream, 16)) return 1;
        return serve(stream);
    }
    if (connect(stream, (void *)&address, sizeof address)) return 255;
    if (write(stream, &byte, 1) != 1 || read(stream, &byte, 1) != 1) return 255;
    return byte;
}
