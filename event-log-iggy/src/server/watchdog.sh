# Runs "$@" as a server that does not outlive whoever started this shell. See process.rs for the why.
#
# In: stdin is a pipe whose other end only our parent holds; stdout takes the server's output; stderr is the locked
# file of the data folder, which is kept open and never written to. $1 is the grace in tenths of a second, $2 a
# folder to remove when the parent has gone (or nothing).
exec 3<&0 4>&2 2>&1 </dev/null
grace=$1 folder=$2
shift 2
(
    # Neither a terminal's signals nor those to the group end the one who has to clean up, and the server's output
    # ends with the server.
    trap '' INT TERM HUP QUIT PIPE
    exec >/dev/null 2>&1
    # We are the server's child for as long as it lives. Asking that, and not whether there is a process of that
    # number, never hits a stranger who got the number later. Without a /proc of our own, the number has to do.
    lives() { read -r _ _ _ parent _ </proc/self/stat && [ "$parent" = "$$" ]; }
    lives || lives() { kill -0 "$$"; }
    # A line means: all is well, the server is gone, go too. The end of the pipe means that the parent is.
    read -r _ <&3 && exit 0
    # A stopped process gets the signal when it continues.
    lives && kill -TERM "$$" && kill -CONT "$$"
    while [ "$grace" -gt 0 ] && lives && sleep 0.1; do grace=$((grace - 1)); done
    lives && kill -KILL "$$"
    [ -z "$folder" ] || rm -rf -- "$folder"
) &
exec 3<&-
exec "$@"
