FROM crossfade-distribution
RUN apt-get update && apt-get install -y --no-install-recommends python3 python3-pip \
    && rm -rf /var/lib/apt/lists/* && ln -s python3 /usr/bin/python
# A bundle of its own: pip's does not know an authority that only this machine trusts.
ENV PIP_CERT=/etc/ssl/certs/ca-certificates.crt
CMD ["python3"]
