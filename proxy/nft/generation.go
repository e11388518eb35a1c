package nft

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// Generation is the number that the kernel gives each version of its ruleset:
// whoever changes any table makes it another one.
func Generation(conn *netlink.Conn) (uint32, error) {
	const getGen = unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_GETGEN
	const sizeofNfgenmsg = 4
	msgs, err := conn.Execute(netlink.Message{
		Header: netlink.Header{Type: getGen, Flags: netlink.Request},
		Data:   make([]byte, sizeofNfgenmsg),
	})
	if err != nil {
		return 0, fmt.Errorf("read nftables' generation: %w", err)
	}
	for _, m := range msgs {
		if len(m.Data) < sizeofNfgenmsg {
			continue
		}
		ad, err := netlink.NewAttributeDecoder(m.Data[sizeofNfgenmsg:])
		if err != nil {
			return 0, fmt.Errorf("read nftables' generation: %w", err)
		}
		ad.ByteOrder = binary.BigEndian
		for ad.Next() {
			if ad.Type() == unix.NFTA_GEN_ID {
				return ad.Uint32(), nil
			}
		}
	}
	return 0, errors.New("read nftables' generation: no number in the answer")
}
