# A small day's work of git: a repository, a branch, a merge, a clone, a look at the history, a clean-up.
set -e
export HOME=/data GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@example.com GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@example.com
cd /data && rm -rf one two
git init -q -b main one && cd one
for n in 1 2 3; do echo "$n" >"file-$n"; git add . && git commit -q -m "commit $n"; done
git checkout -q -b side HEAD~1 && echo x >side && git add side && git commit -q -m side
git checkout -q main && git merge -q -m merge side
git clone -q /data/one /data/two
git -C /data/two fetch -q && git log --stat --oneline | cat >/dev/null
git grep -q 2 && git blame file-1 >/dev/null && git status --short
git gc -q && git fsck
cp -a /data/one /data/three && rm -rf /data/three
rm -rf /data/one /data/two && echo done
