/* Arguments in, exit code out. */
#include <stdio.h>
#include "host.h"

int main(int argc, char **argv)
{
    static struct host host;
    const char *message = "";
    int code;

    if (!host_open(&host, argc, argv, &message)) {
        fprintf(stderr, "moontide: cannot start: %s\n", message);
        return 70;
    }
    code = host_run(&host);
    host_close(&host);
    return code;
}
