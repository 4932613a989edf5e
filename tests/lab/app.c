/* The sample app that tests and the demo release: a web server of one file, linked statically, FROM scratch.
 *
 * It reads /version (one line, shown to visitors) and /mode (how this release behaves) from its image:
 *     good          works
 *     sick          listens, but answers 503 for ever
 *     crash         ends with status 1 before it listens
 *     late SECONDS  works that long, then ends with status 14
 *     fade SECONDS  works that long, then answers 503
 *     slow SECONDS  listens only after that long
 * PORT names the port (8080) on loopback; ADDRESS=0.0.0.0 makes it listen everywhere, for pods with addresses.
 * `app --check` asks the running one and exits 0 when it answers 200: the image's HEALTHCHECK, since there is no
 * shell or curl in it. `sh -c ANYTHING` is the same, where this program is the image's shell too: podman runs
 * every livenessProbe through one. */
#include <arpa/inet.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static void line_of(const char *path, char *out, size_t size)
{
    FILE *f = fopen(path, "re");

    if (!f || !fgets(out, (int)size, f))
        out[0] = '\0';
    if (f)
        fclose(f);
    out[strcspn(out, "\r\n")] = '\0';
}

static struct sockaddr_in address(void)
{
    const char *port = getenv("PORT");
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};

    a.sin_port = htons((unsigned short)(port ? strtoul(port, NULL, 10) : 8080));
    return a;
}

static int check(void)
{
    struct sockaddr_in a = address();
    char answer[16] = "";
    int s = socket(AF_INET, SOCK_STREAM, 0);

    if (connect(s, (struct sockaddr *)&a, sizeof a) < 0 || write(s, "GET / HTTP/1.0\r\n\r\n", 18) < 0 ||
        read(s, answer, sizeof answer - 1) < 0)
        return 1;
    return strncmp(answer, "HTTP/1.0 200", 12) == 0 ? 0 : 1;
}

static void answer(int fd, bool well, const char *version)
{
    char request[4096], reply[512];
    int len;

    if (read(fd, request, sizeof request) <= 0)
        return;
    len = snprintf(reply, sizeof reply,
                   "HTTP/1.0 %s\r\nContent-Type: text/plain\r\nContent-Length: %zu\r\n\r\n%s %s\n",
                   well ? "200 OK" : "503 Service Unavailable", strlen(version) + (well ? 7 : 6),
                   well ? "hello" : "sick", version);
    if (write(fd, reply, (size_t)len) < 0)
        return;
}

int main(int argc, char **argv)
{
    struct sockaddr_in a = address();
    char mode[64], version[64];
    int one = 1, s;
    unsigned seconds = 0;
    time_t end;

    if (argc > 1 && (strcmp(argv[1], "--check") == 0 || strcmp(argv[1], "-c") == 0))
        return check();
    if (getenv("ADDRESS"))
        inet_pton(AF_INET, getenv("ADDRESS"), &a.sin_addr);
    line_of("/mode", mode, sizeof mode);
    line_of("/version", version, sizeof version);
    if (strchr(mode, ' '))
        seconds = (unsigned)strtoul(strchr(mode, ' '), NULL, 10);
    printf("version %s, mode %s, port %d\n", version, mode, ntohs(a.sin_port));
    fflush(stdout);
    if (strcmp(mode, "crash") == 0) {
        fprintf(stderr, "fatal: this release cannot start\n");
        return 1;
    }
    if (strncmp(mode, "slow", 4) == 0)
        sleep(seconds);
    signal(SIGTERM, _exit); /* process 1 of a container has no default actions */
    signal(SIGINT, _exit);
    if (strncmp(mode, "late", 4) == 0) {
        signal(SIGALRM, _exit);
        alarm(seconds);
    }

    s = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(s, (struct sockaddr *)&a, sizeof a) < 0 || listen(s, 64) < 0) {
        perror("listen");
        return 1;
    }
    end = time(NULL) + seconds;
    for (;;) {
        bool well = strcmp(mode, "sick") != 0 && !(strncmp(mode, "fade", 4) == 0 && time(NULL) >= end);
        int fd = accept(s, NULL, NULL);

        if (fd < 0)
            continue;
        answer(fd, well, version);
        close(fd);
    }
}
