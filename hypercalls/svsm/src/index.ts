export { SvsmProtocol, svsmProtocolNames } from './protocols.ts';
