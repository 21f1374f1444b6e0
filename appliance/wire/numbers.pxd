# cython: language_level=3
"""The numbers by which protocols name each other: link types (tcpdump.org), Ethernet types, IP protocols and UDP ports (IANA)."""

cdef enum:
    DLT_NULL = 0
    DLT_EN10MB = 1
    DLT_PPP = 9
    DLT_RAW = 12
    DLT_RAW_OPENBSD = 14
    DLT_PPP_SERIAL = 50
    DLT_PPP_ETHER = 51
    LINKTYPE_RAW = 101
    DLT_C_HDLC = 104
    DLT_IEEE802_11 = 105
    DLT_LOOP = 108
    DLT_LINUX_SLL = 113
    DLT_RADIOTAP = 127              # 802.11 behind a radiotap header
    DLT_PPI = 192
    DLT_IPV4 = 228
    DLT_IPV6 = 229
    DLT_NFLOG = 239
    DLT_LINUX_SLL2 = 276

    SLL_802_2 = 4                   # a cooked header's protocol: LLC follows
    ARPHRD_NETLINK = 824            # a cooked header's device type: messages of the kernel, no traffic

    LONGEST_802_3 = 1500            # up to this, an Ethernet type is a length and LLC follows
    ETHERTYPE_IPV4 = 0x0800
    ETHERTYPE_ERSPAN_3 = 0x22EB
    ETHERTYPE_BRIDGED = 0x6558      # an Ethernet frame
    ETHERTYPE_VLAN = 0x8100
    ETHERTYPE_IPV6 = 0x86DD
    ETHERTYPE_PPP = 0x880B
    ETHERTYPE_MPLS = 0x8847
    ETHERTYPE_MPLS_MULTICAST = 0x8848
    ETHERTYPE_PPPOE = 0x8864
    ETHERTYPE_QINQ = 0x88A8
    ETHERTYPE_ERSPAN = 0x88BE       # types I and II
    ETHERTYPE_QINQ_OLD = 0x9100

    PPP_IPV4 = 0x0021
    PPP_IPV6 = 0x0057
    PPP_MPLS = 0x0281
    PPP_MPLS_MULTICAST = 0x0283

    PROTO_HOPOPTS = 0
    PROTO_IPV4 = 4
    PROTO_TCP = 6
    PROTO_UDP = 17
    PROTO_IPV6 = 41
    PROTO_ROUTING = 43
    PROTO_FRAGMENT = 44
    PROTO_GRE = 47
    PROTO_AH = 51
    PROTO_DSTOPTS = 60
    PROTO_MOBILITY = 135
    PROTO_HIP = 139
    PROTO_SHIM6 = 140

    PORT_GTP_U = 2152               # this one and three of those below: defaults of options
    PORT_TEREDO = 3544
    PORT_GRE = 4754                 # RFC 8086
    PORT_VXLAN = 4789
    PORT_VXLAN_GPE = 4790
    PORT_GENEVE = 6081
    PORT_VXLAN_LINUX = 8472         # the port of Linux before IANA assigned one
