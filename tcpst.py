import socket,time,subprocess
ss=[];n=0
for a in('127.0.0.1','127.0.0.2','127.0.0.3','127.0.0.4'):
  for i in range(16):
    s=socket.socket();s.bind((a,0));s.settimeout(1)
    try:
      s.connect(('127.0.0.1',9100));s.sendall(b'GET /v1/counters/stream HTTP/1.1\r\nHost: localhost\r\n\r\n');r=s.recv(20)
      n+=b'200' in r
    except Exception as e: pass
    ss.append(s)
print('tcp streams',n)
print(subprocess.run(['timeout','3','/work/attack5/enforcer','events','--follow','--socket','/work/attack5/w/a.sock'],capture_output=True).stderr[:200])
s=socket.socket();s.bind(('127.0.0.9',0));s.settimeout(2);
try: s.connect(('127.0.0.1',9100));s.sendall(b'GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n');print(s.recv(20))
except Exception as e: print('metrics',repr(e))
